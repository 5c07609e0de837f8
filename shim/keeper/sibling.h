/* Shards of a keeper that has ended, which hold an address that somebody wants to join now. One that
 * accepts through the preload is woken and comes back by itself. One that cannot be (UDP; TCP whose
 * accepts nobody sees) is known by sight: others may join beside it, and nobody is steered there. */
#ifndef SOCKSHARD_KEEPER_SIBLING_H
#define SOCKSHARD_KEEPER_SIBLING_H

#include "state.h"

/**
 * sibling_greet - an address of which we hold nothing is in use: by one of them?
 *
 * Returns 1: to be joined beside; -EAGAIN: one is being woken; -EADDRINUSE: by somebody else.
 */
int sibling_greet(struct keeper *k, const struct wire_reserve *want);

/** sibling_meet - mark what is listed of a new group as theirs; to be joined beside */
void sibling_meet(struct keeper *k, int group);

/** sibling_are_there - after a listing: does the kernel's array still have one that was marked */
bool sibling_are_there(const struct keeper *k, int group);

#endif

/* Who owns a held socket: judged anew when a process or a connection ends, and when time has passed. */
#ifndef SOCKSHARD_KEEPER_REVIEW_H
#define SOCKSHARD_KEEPER_REVIEW_H

#include "state.h"

/** review_member - an owner's process or connection ended, or time has passed */
void review_member(struct keeper *k, int member);

/**
 * review_empty - a group's sockets that nobody accepts from: without buckets while others accept
 *
 * Returns whether that changed for one of them: then the group is to be steered.
 */
bool review_empty(struct keeper *k, int group);

/** review_holds - has that process a descriptor of the member's socket: 1, 0; -EACCES, -ESRCH: unknown */
int review_holds(const struct member *m, uint32_t pid);

/** review_is_left - no living process has this socket, as far as its owners are known */
bool review_is_left(const struct keeper *k, int member);

/** review_next_ms - when the next held socket wants a review; NEVER */
int64_t review_next_ms(const struct keeper *k);

#endif

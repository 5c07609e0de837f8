/* Stuck shards: alive, but not accepting while connections wait and others have nothing to do. */
#ifndef SOCKSHARD_KEEPER_STUCK_H
#define SOCKSHARD_KEEPER_STUCK_H

#include "state.h"

/**
 * stuck_on_time - look at every group that wants it; judge and acquit
 *
 * A verdict needs all of: the shard's hook has accepted before; it has not for stuck= while connections
 * wait; another live shard has an empty queue and has accepted meanwhile (else it is overload); at most
 * half of the shards are stuck; our own clock was on time. Buckets and queue go to the others.
 */
void stuck_on_time(struct keeper *k);

/**
 * stuck_claimed - a worker has come
 *
 * When as many have within a second as half of those that were there before, the older ones are taken to
 * be leaving, for 10 s: to stand still for 50 ms is enough then, whatever they have lately taken for a
 * connection. All else that a verdict needs stays. stuck=0 stands for never here, too.
 */
void stuck_claimed(struct keeper *k, int member);

/** stuck_next_ms - when to look again; NEVER */
int64_t stuck_next_ms(const struct keeper *k);

/** stuck_heard - the shard has spoken: it accepts, or accepts again */
void stuck_heard(struct keeper *k, int member);

#endif

/* Which live shards can be nudged (nudge.h) to fetch a connection that waits elsewhere. */
#ifndef SOCKSHARD_KEEPER_RECEIVER_H
#define SOCKSHARD_KEEPER_RECEIVER_H

#include "state.h"

/** receiver_exists - is there a shard that could be nudged, now or later */
bool receiver_exists(const struct keeper *k, int group);

/** receiver_choose - the one with the fewest nudges before it; NONE: all have enough */
int receiver_choose(const struct keeper *k, int group);

/** receiver_all_deaf - there are shards that accept, and none answers nudges */
bool receiver_all_deaf(const struct keeper *k, int group);

/**
 * receiver_wake - nobody can be nudged: wake those that live and have lost their connection, and whoever
 * waits in a socket that nobody is known to accept from
 *
 * They come back with their next accept, and while no client comes there is none. Who cannot (its keeper
 * was found too slow just now) takes this nudge for a client that hangs up, and is sent another one
 * when the first has been given up. To be called where a nudge may be sent.
 */
void receiver_wake(struct keeper *k, int group);

#endif

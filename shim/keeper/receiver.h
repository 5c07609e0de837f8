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

#endif

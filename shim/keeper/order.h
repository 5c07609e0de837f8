/* The order of the kernel's array, found out: a probe to each index whose socket is not certain, and
 * whoever swallows it has that index. Until then the kernel's own hash decides. */
#ifndef SOCKSHARD_KEEPER_ORDER_H
#define SOCKSHARD_KEEPER_ORDER_H

#include "state.h"

/** order_wanted - a group cannot be steered because its order is not certain: probe soon */
void order_wanted(struct keeper *k, int group);

/** order_answered - this member has swallowed a nudge: if that went to an index, the index is its */
void order_answered(struct keeper *k, int nudge, int member);

/** order_on_time - probe the groups that want it; commits */
void order_on_time(struct keeper *k);

/** order_next_ms - when order_on_time() has something to do; NEVER */
int64_t order_next_ms(const struct keeper *k);

#endif

/* Mode handover: the newest shard that accepts gets all new connections; the ones before keep what
 * they have, their queues too. Who is the newest, and how its accepting is proven. */
#ifndef SOCKSHARD_KEEPER_HANDOVER_H
#define SOCKSHARD_KEEPER_HANDOVER_H

#include "state.h"

/** handover_joined - a socket has joined its group: its place in the order, and is it ready at once */
void handover_joined(struct keeper *k, int member);

/**
 * handover_rejoined - it had joined under a keeper that has ended
 * @order: as its page says; 0: not known
 */
void handover_rejoined(struct keeper *k, int member, uint64_t order);

/**
 * handover_deal - all buckets to the newest shard that is ready
 *
 * While none is known to accept: to the oldest. With nobody to take them they stay where they are.
 */
void handover_deal(struct keeper *k, int group);

/** handover_heard - the shard accepts: the buckets move to it when it is the newest */
void handover_heard(struct keeper *k, int member);

/** handover_passes_over - would a newer shard be given a waiting connection before this one */
bool handover_passes_over(const struct keeper *k, int member);

/** handover_probe - ask those who are not known to accept; not while a request is handled */
void handover_probe(struct keeper *k, int group);

/** handover_on_time - ask again: one could not be asked, or has accepted by itself */
void handover_on_time(struct keeper *k);

/** handover_next_ms - when to look again; NEVER */
int64_t handover_next_ms(const struct keeper *k);

#endif

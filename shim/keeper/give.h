/* Giving: a connection that waits where nobody accepts is taken out of that queue, and handed to a
 * live shard through its own accept, which a nudge wakes. Order: first the connection is reserved,
 * then the nudge is sent, so that a woken server always finds something. */
#ifndef SOCKSHARD_KEEPER_GIVE_H
#define SOCKSHARD_KEEPER_GIVE_H

#include "state.h"

/**
 * give_pump - take what waits in a group's ownerless queues, and nudge shards to fetch it: soon, when
 * the request that is being handled has its answer (a nudge is committed before it is made)
 */
void give_pump(struct keeper *k, int group);

/**
 * give_ahead - before the program that takes this member's buckets away: nudges for what waits there,
 * so that this program has their rules already. give_pump() is to follow
 */
void give_ahead(struct keeper *k, int member);

/** give_run - do so now for all groups that want it */
void give_run(struct keeper *k);

/** give_restore - after a worker's end: nudges and gifts that are no more are forgotten */
void give_restore(struct keeper *k);

/** give_reserve - one waiting connection becomes a gift: 0; -EAGAIN none waits; -ENOSPC; -errno */
int give_reserve(struct keeper *k, int member);

/**
 * give_found - a descriptor that nobody recorded: true, and taken over, when it is a connection to
 * one of our groups, which the worker that died had just accepted
 */
bool give_found(struct keeper *k, int fd);

/** give_has - is this connection (SO_COOKIE) a gift on its way */
bool give_has(const struct keeper *k, uint64_t cookie);

/** give_is_possible - is there a live shard that could be given a connection */
bool give_is_possible(struct keeper *k, int group);

/** give_take_all - everything that waits in a socket about to be disconnected becomes a gift */
void give_take_all(struct keeper *k, int member);

/**
 * give_answer - a shard asks about a connection it accepted
 * @ret: the body of the answer; @ret_fd: the gift's descriptor, the keeper's, or NONE
 */
void give_answer(struct keeper *k, int conn, const struct wire_ask *ask, struct wire_given *ret,
                 int *ret_fd);

/** give_taken - the shard has it: 0; -ENOENT: it was not its own to take */
int give_taken(struct keeper *k, int conn, uint32_t gift);

/** give_conn_ended - what was sent there and not acknowledged goes to another */
void give_conn_ended(struct keeper *k, int conn);

/** give_waiting - connections of this member that wait or are on their way */
unsigned give_waiting(const struct keeper *k, int member);

/** give_on_time - nudges that nobody answered; gifts that nobody can take any more */
void give_on_time(struct keeper *k);

/** give_next_ms - when give_on_time() has something to do; NEVER */
int64_t give_next_ms(const struct keeper *k);

#endif

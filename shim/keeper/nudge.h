/* Nudges: connections of our own, steered to one shard by a rule for their exact port, that its
 * server's accept swallows. One wakes a shard to fetch a gift (give.h); a probe proves that it
 * accepts. Never withdrawn once it is connected: it may be in a queue. */
#ifndef SOCKSHARD_KEEPER_NUDGE_H
#define SOCKSHARD_KEEPER_NUDGE_H

#include "../steer/program.h"
#include "state.h"

/** nudge_find - the nudge that has these ends, as a shard of this group sees them; NONE */
int nudge_find(const struct keeper *k, int group, const struct addr *peer,
               const struct addr *local);

/** nudge_is_from - does a connection from this end come from us, and has nobody asked about it yet */
bool nudge_is_from(const struct keeper *k, const struct addr *peer);

/** nudge_end - it came out of a queue, or can never be in one */
void nudge_end(struct keeper *k, int nudge);

/** nudge_answered - a shard has asked about it: it is over, and who was meant hears us */
void nudge_answered(struct keeper *k, int nudge);

/** nudge_outstanding - nudges on their way to a member */
unsigned nudge_outstanding(const struct keeper *k, int member);

/** nudge_all_given_up - all that it has been sent, if any, was not answered in time */
bool nudge_all_given_up(const struct keeper *k, int member);

/** nudge_pending - nudges of a group that are expected to fetch a gift */
unsigned nudge_pending(const struct keeper *k, int group);

/**
 * nudge_prepare - to wake one shard; it is connected by nudge_send()
 * @probe: it brings nothing
 *
 * Returns it, or -errno.
 */
int nudge_prepare(struct keeper *k, int member, bool probe);

/** nudge_prepare_index - a probe to whoever has this index. 0 or -errno */
int nudge_prepare_index(struct keeper *k, int group, uint16_t index);

/** nudge_unsent - how many of a group wait for nudge_send() */
unsigned nudge_unsent(const struct keeper *k, int group);

/** nudge_send - put the rules of those that are prepared in force, and connect them; commits */
void nudge_send(struct keeper *k, int group);

/** nudge_send_ruled - connect those whose rule has come into force with another program; commits */
void nudge_send_ruled(struct keeper *k, int group);

/** nudge_withdraw - of those that wait for nudge_send(), end what is pending beyond so many */
void nudge_withdraw(struct keeper *k, int group, unsigned keep);

/** nudge_anybody - wake whoever the kernel's hash chooses; commits. 0 or -errno */
int nudge_anybody(struct keeper *k, int group);

/**
 * nudge_hang_up - it says no more, as soon as it is connected
 *
 * Whoever takes it out of the queue and asks hears what it is all the same. Whoever cannot ask has a client
 * that has hung up, and does not wait for what it would say.
 */
void nudge_hang_up(struct keeper *k, int nudge);

/** nudge_probe - to a shard that may not accept: its swallowing proves that it does; commits */
void nudge_probe(struct keeper *k, int member);

/**
 * nudge_knock - wake somebody on an address that we hold nothing of, so that it notices that its
 * keeper has ended; the connection is answered for as a nudge. 0 or -errno
 */
int nudge_knock(struct keeper *k, const struct addr *addr);

/**
 * nudge_call_again - its page does not say that nudges are on their way, and perhaps they are
 *
 * A new page: the one that is to wake it may be behind clients in its queue. A process that has given up
 * asking (link_give_up()): others that share the socket have not.
 */
void nudge_call_again(struct keeper *k, int member);

/** nudge_wake_ghosts - let the siblings of one that rejoined notice that their keeper has ended */
void nudge_wake_ghosts(struct keeper *k, int group);

/** nudge_rules - the exact-port rules of a group's nudges, for a program that is attached now: at most
 * max are written; how many */
size_t nudge_rules(struct keeper *k, int group, struct program_rule *ret, size_t max);

/** nudge_call - its process has lost its connection to us: the next accept is to make a new one */
void nudge_call(struct keeper *k, int member);

/** nudge_call_all - all of a group; not @on: those that no other nudge is on its way to, not any more */
void nudge_call_all(struct keeper *k, int group, bool on);

/** nudge_call_off - it has come back */
void nudge_call_off(struct keeper *k, int member);

/** nudge_member_died - nobody answers its nudges any more, though they may still be in its queue */
void nudge_member_died(struct keeper *k, int member);

/** nudge_member_ended - its nudges ended with its socket, or nobody can ask about them any more */
void nudge_member_ended(struct keeper *k, int member);

/** nudge_restore - after a worker's end: nudges that are no more are forgotten */
void nudge_restore(struct keeper *k);

/** nudge_on_time - those that nobody answered are not counted on any more */
void nudge_on_time(struct keeper *k);

/** nudge_next_ms - when nudge_on_time() has something to do; NEVER */
int64_t nudge_next_ms(const struct keeper *k);

#endif

/* See give.h. No gift has two owners: it is sent again only after the end of the connection it was
 * sent to. */
#include "give.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "fault.h"
#include "group.h"
#include "handover.h"
#include "member.h"
#include "nudge.h"
#include "order.h"
#include "receiver.h"
#include "snapshot.h"
#include "stuck.h"

#define UNSTEERED_MS   20   /* the kernel goes on sending to orphans: they are looked at so often */
#define BATCH          16   /* nudges for one program: the first must not wait for too many */
#define AHEAD          4    /* and for the program that moves the buckets: the flows wait for that */

static unsigned gifts_waiting(const struct keeper *k, int group)
{
	unsigned n = 0;

	for (int i = 0; i < k->gift_top; i++)
		n += k->gifts[i].used && k->gifts[i].group == group && k->gifts[i].conn == NONE;
	return n;
}

/* The probe in a stuck shard's queue stays there; a nudge that a dead one has not fetched is taken out. */
static bool waits_for_gift(const struct keeper *k, int member)
{
	const struct member *m = &k->members[member];

	return member_queue(k, m) > (m->state == WIRE_STUCK ? nudge_outstanding(k, member) : 0);
}

static bool is_source(const struct member *m, int group)
{
	return m->used && m->group == group && m->page.at && m->fd != NONE && !member_takes(m) &&
	       (m->state == WIRE_ORPHAN || m->state == WIRE_DRAINING || m->state == WIRE_STUCK ||
	        m->state == WIRE_EMPTY);
}

/* Where nobody can be steered: whoever the kernel's hash takes a nudge to gets a gift. */
static void pump_unsteered(struct keeper *k, int group)
{
	if (!receiver_exists(k, group))
		return;
	for (int i = 0; i < k->member_top; i++)
		while (is_source(&k->members[i], group) && waits_for_gift(k, i))
			if (give_reserve(k, i) < 0)
				break;
	while (gifts_waiting(k, group) > nudge_pending(k, group))
		if (nudge_anybody(k, group) < 0)
			return;
}

bool give_is_possible(struct keeper *k, int group)
{
	return !receiver_all_deaf(k, group) && group_is_heard(k, group);
}

static bool has_source(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (is_source(&k->members[i], group) && waits_for_gift(k, i))
			return true;
	return gifts_waiting(k, group) > 0;
}

/* A nudge for a gift that has none yet. */
static int nudge_one(struct keeper *k, int group)
{
	int to, r;

	if (gifts_waiting(k, group) <= nudge_pending(k, group))
		return 0;
	nudge_send_ruled(k, group);
	to = receiver_choose(k, group);
	if (to == NONE)
		return -EAGAIN;
	r = nudge_prepare(k, to, false);
	if (r < 0)
		k->members[to].deaf = DEAF_MAX;
	else if (nudge_unsent(k, group) == BATCH)
		nudge_send(k, group);
	return r;
}

void give_pump(struct keeper *k, int group)
{
	/* In mode shared everybody accepts from the one queue. */
	k->groups[group].pump = k->groups[group].mode != WIRE_MODE_SHARED;
}

void give_ahead(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	const struct group *g = &k->groups[m->group];
	unsigned waiting;

	if (!g->steered || g->unheard || g->mode == WIRE_MODE_SHARED || !is_source(m, m->group))
		return;
	waiting = member_queue(k, m);
	for (unsigned i = 0; i < waiting && i < AHEAD; i++) {
		int to = receiver_choose(k, m->group);

		if (to == NONE || nudge_prepare(k, to, false) < 0)
			return;
	}
}

static void pump_steered(struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++) {
		while (is_source(&k->members[i], group) &&
		       (gifts_waiting(k, group) < nudge_pending(k, group) ||
		        receiver_choose(k, group) != NONE) &&
		       waits_for_gift(k, i)) {
			if (gifts_waiting(k, group) <= nudge_pending(k, group) &&
			    give_reserve(k, i) < 0)
				break;
			if (gifts_waiting(k, group) >= nudge_pending(k, group))
				nudge_send_ruled(k, group);
			nudge_one(k, group);
		}
	}
	while (gifts_waiting(k, group) > nudge_pending(k, group))
		if (nudge_one(k, group) < 0)
			break;
}

static void pump(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	bool wanted = g->addr.proto == IPPROTO_TCP && has_source(k, group) && group_is_heard(k, group);

	g->pump = false;
	if (wanted && g->steered) {
		receiver_wake(k, group);
		pump_steered(k, group);
	}
	nudge_withdraw(k, group, gifts_waiting(k, group));
	if (wanted && !g->steered)
		pump_unsteered(k, group);
	else if (wanted)
		nudge_send(k, group);
}

void give_run(struct keeper *k)
{
	for (int i = 0; i < k->group_top; i++)
		if (k->groups[i].used && k->groups[i].pump) {
			handover_probe(k, i);
			pump(k, i);
		}
}

/* --- the shard's side of it */

/* Who waits longest is given first: else a steady stream of others would overtake it for ever. */
static int oldest_gift(const struct keeper *k, int group)
{
	int oldest = NONE;

	for (int i = 0; i < k->gift_top; i++) {
		const struct gift *g = &k->gifts[i];

		if (g->used && g->group == group && g->conn == NONE &&
		    (oldest == NONE || (int32_t)(g->id - k->gifts[oldest].id) < 0))
			oldest = i;
	}
	return oldest;
}

void give_answer(struct keeper *k, int conn, const struct wire_ask *ask, struct wire_given *ret,
                 int *ret_fd)
{
	struct conn *c = &k->conn[conn];
	int group = c->group, nudge = nudge_find(k, group, &ask->peer, &ask->local), gift;

	memset(ret, 0, sizeof(*ret));
	*ret_fd = NONE;
	k->groups[group].heard = true;
	if (c->member != NONE)
		stuck_heard(k, c->member);
	if (nudge == NONE)
		return;
	ret->nudge = 1;
	FAULT(ask_known);
	if (c->member != NONE)
		order_answered(k, nudge, c->member);
	nudge_answered(k, nudge);
	gift = oldest_gift(k, group);
	if (gift == NONE)
		return;
	k->gifts[gift].conn = conn;
	k->soon = true;
	ret->gift = k->gifts[gift].id;
	*ret_fd = k->gifts[gift].fd;
	FAULT(ask_chosen);
}

int give_taken(struct keeper *k, int conn, uint32_t gift)
{
	for (int i = 0; i < k->gift_top; i++) {
		struct gift *g = &k->gifts[i];

		if (!g->used || g->id != gift || g->conn != conn)
			continue;
		state_close(k, g->fd, g->cookie); /* asked again, the next worker must still know it */
		g->used = false;
		FAULT(taken);
		if (k->conn[conn].member != NONE)
			k->groups[g->group].slots[k->members[k->conn[conn].member].slot].given++;
		return 0;
	}
	return -ENOENT;
}

void give_conn_ended(struct keeper *k, int conn)
{
	for (int i = 0; i < k->gift_top; i++)
		if (k->gifts[i].used && k->gifts[i].conn == conn)
			k->gifts[i].conn = NONE;
}

/* --- the next worker; the clock */

void give_restore(struct keeper *k)
{
	for (int i = 0; i < k->gift_top; i++)
		if (k->gifts[i].used && snapshot_identity(k->gifts[i].fd) != k->gifts[i].cookie)
			k->gifts[i].used = false;
	nudge_restore(k);
}

unsigned give_waiting(const struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	unsigned n = member_queue(k, m);

	for (int i = 0; i < k->gift_top; i++)
		n += k->gifts[i].used && k->gifts[i].group == m->group && k->gifts[i].from == m->slot;
	return n;
}

static bool group_has_live(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group)
			return true;
	return false;
}

static void pump_if_due(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];

	if (g->pump_at > k->now)
		return;
	g->pump_at = k->now + (g->steered ? WATCH_MS : UNSTEERED_MS);
	give_pump(k, group);
}

/* What still arrives where nobody accepts: the end of a handshake from before, and without steering
 * any connection. What found nobody to take it is tried again. */
static void pump_sources(struct keeper *k)
{
	for (int i = 0; i < k->member_top; i++)
		if (is_source(&k->members[i], k->members[i].group))
			pump_if_due(k, k->members[i].group);
	for (int i = 0; i < k->gift_top; i++)
		if (k->gifts[i].used && k->gifts[i].conn == NONE)
			pump_if_due(k, k->gifts[i].group);
}

/* All that live are deaf, and have been for as long as anything is held. */
static bool nobody_takes(const struct keeper *k, const struct gift *g)
{
	return g->conn == NONE && receiver_all_deaf(k, g->group) &&
	       k->now - g->since > k->groups[g->group].hold_ms;
}

void give_on_time(struct keeper *k)
{
	pump_sources(k);
	nudge_on_time(k);
	for (int i = 0; i < k->gift_top; i++) {
		struct gift *g = &k->gifts[i];

		if (!g->used || (k->groups[g->group].used && group_has_live(k, g->group) &&
		                 !nobody_takes(k, g)))
			continue;
		k->groups[g->group].lost++;
		k->sys->close(g->fd);
		g->used = false;
		if (k->groups[g->group].used)
			group_release_if_empty(k, g->group);
	}
}

int64_t give_next_ms(const struct keeper *k)
{
	int64_t next = nudge_next_ms(k);

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		/* review.c looks at the empty ones, which may be there for days */
		if (is_source(m, m->group) && k->groups[m->group].pump_at < next &&
		    (m->state != WIRE_EMPTY || !k->groups[m->group].steered))
			next = k->groups[m->group].pump_at;
	}
	for (int i = 0; i < k->gift_top; i++) {
		const struct gift *g = &k->gifts[i];

		if (g->used && g->conn == NONE && k->groups[g->group].pump_at < next)
			next = k->groups[g->group].pump_at;
	}
	return next;
}

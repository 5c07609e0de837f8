/* See leave.h. */
#include "leave.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "../util/log.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "member.h"
#include "review.h"
#include "snapshot.h"

/* Is somebody between bind(2) and listen(2)? Workers that bind by themselves (hitch) come so while the older
 * ones leave. The port is taken anyway; not for long, since some who bind never listen. */
static bool is_awaited(const struct keeper *k, int group)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->fd != NONE && c->state == CONN_RESERVED && c->group == group &&
		    c->page.at && !c->want.rejoins && k->now - c->reserved_at < AWAIT_MS)
			return true;
	}
	return false;
}

/* Does an owner of it run exit(3)? It is about to end, and has its descriptors until then. */
static bool an_owner_exits(const struct keeper *k, int member)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->state == CONN_OWNER && c->member == member && c->clean && !c->dead)
			return true;
	}
	return false;
}

void leave_release(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	struct group *g = &k->groups[m->group];
	unsigned waiting = member_is_alone(k, member) ? member_queue(k, m) : 0;
	bool exits = an_owner_exits(k, member);
	uint64_t cookie = m->cookie;
	uint32_t slot = m->slot;
	int group = m->group;

	g->lost += waiting;
	(void)member_accepted(m);
	state_commit(k);
	FAULT(release_before);
	k->sys->close(m->fd);
	FAULT(release_after);
	member_vanished(k, member);
	FAULT(release_told);
	(void)group_list(k, group);
	if (waiting == 0)
		return;
	if (!exits && index_find(&g->map, cookie) != -ENOENT) {
		/* It listens: on its way from one process to another, or held by one that we do not see. */
		g->lost -= waiting;
		log_info("slot %u of group '%s' ends: somebody else has its socket", slot, g->name);
		return;
	}
	log_warn("slot %u of group '%s' ends: %u waiting connections are reset, nobody could take them",
	         slot, g->name, waiting);
}

void leave_leftovers(struct keeper *k, int group)
{
	k->groups[group].releasing = false;
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m->used && m->group == group &&
		    (member_takes(m) || group_supervised(k, group, m->slot)))
			return;
	}
	k->groups[group].releasing = true;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group)
			leave_release(k, i);
	k->groups[group].releasing = false;
}

bool leave_others_live(const struct keeper *k, int member)
{
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group && member_takes(&k->members[i]))
			return true;
	return false;
}

/* A slot without a process is held for its next one, which can be given what waits elsewhere too. */
static bool others_return(const struct keeper *k, int member)
{
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group &&
		    k->members[i].state == WIRE_ORPHAN)
			return true;
	return false;
}

/* Without those whose next process is yet to come: for that one the queue waits. */
static bool others_accept(const struct keeper *k, int member)
{
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group &&
		    k->members[i].state != WIRE_EMPTY && member_takes(&k->members[i]))
			return true;
	return false;
}

bool leave_is_drained(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	int64_t idle_ms = k->now - m->idle_since;
	int half_open;

	/* In this order: what is half open may be in the queue a moment later. */
	half_open = group_half_open(k, m->group, idle_ms,
	                            member_int(k, m->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT));
	if (member_queue(k, m) > 0) /* those that live may all be unable to take it */
		return others_accept(k, member) && !give_is_possible(k, m->group);
	return half_open < 0 ? idle_ms >= EVICT_MS : half_open == 0;
}

/* leave_evict_due() ends it. */
static void evict_when_drained(const struct keeper *k, struct member *m)
{
	m->watch_at = NEVER;
	m->evict = true;
	if (m->idle_since == 0)
		m->idle_since = k->now;
}

void leave_drain(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	m->state = WIRE_DRAINING;
	evict_when_drained(k, m);
	group_steer(k, m->group);
	if (!k->groups[m->group].steered) { /* the kernel goes on sending to it: no use in waiting */
		int group = m->group;

		give_take_all(k, member);
		leave_release(k, member);
		give_pump(k, group);
		return;
	}
	give_pump(k, m->group);
}

void leave_withdraw(struct keeper *k, int member, bool keep_home)
{
	struct member *m = &k->members[member];
	struct group *g = &k->groups[m->group];
	int group = m->group;

	(void)group_list(k, group); /* a stranger that came unseen is known before indices move */
	m->state = WIRE_DRAINING;
	(void)review_empty(k, group); /* it was the last that accepted: for the next one its queue waits */
	if (keep_home && !m->followed)
		g->slots[m->slot].home_until = k->now + g->hold_ms;
	if (m->page.at && member_is_alone(k, member) && leave_others_live(k, member) &&
	    (g->steered || give_is_possible(k, group))) {
		leave_drain(k, member);
		if (!m->used || !leave_is_drained(k, member))
			return;
	}
	if (m->page.at && member_is_alone(k, member) && g->steered && g->mode == WIRE_MODE_BALANCE &&
	    is_awaited(k, group)) { /* the program goes on sending to it */
		evict_when_drained(k, m);
		return;
	}
	group_steer(k, group);
	g->releasing = keep_home;
	leave_release(k, member);
	if (keep_home)
		leave_leftovers(k, group);
	group_steer(k, group);
	group_release_if_empty(k, group);
}

static int disconnect(struct keeper *k, int fd)
{
	struct sockaddr sa = { .sa_family = AF_UNSPEC };

	return k->sys->connect(fd, &sa, sizeof(sa));
}

bool leave_has_other_owner(const struct keeper *k, int member, const struct conn *than)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c != than && c->state == CONN_OWNER && c->member == member &&
		    (c->fd != NONE || !c->dead))
			return true;
	}
	return false;
}

static void unreserve(struct keeper *k, struct conn *c)
{
	int group = c->group;

	if (c->state != CONN_RESERVED && c->state != CONN_GRANTED)
		return;
	c->state = CONN_READY;
	c->group = NONE;
	page_drop(&c->page);
	group_release_if_empty(k, group);
}

int leave_request(struct keeper *k, int conn, uint32_t action)
{
	struct conn *c = &k->conn[conn];
	int member = c->member, r = 0;
	struct member *m;

	if (c->state != CONN_OWNER || member == NONE) {
		if (action == WIRE_CLOSED)
			unreserve(k, c);
		return 0;
	}
	m = &k->members[member];
	if (action == WIRE_CLOSED && leave_has_other_owner(k, member, c)) {
		c->state = CONN_RESERVED;
		c->member = NONE;
		review_member(k, member);
		return 0;
	}
	if (action != WIRE_CLOSED && !member_is_alone(k, member))
		return -EPROTO; /* it would end the others' socket as well */
	(void)group_list(k, m->group); /* a stranger that came unseen is known before indices move */
	m->state = WIRE_DRAINING;
	group_steer(k, m->group);
	FAULT(leave_steered);
	if (action != WIRE_CLOSED && leave_others_live(k, member))
		give_take_all(k, member);
	if (action == WIRE_SHUT_RD || action == WIRE_SHUT_RDWR)
		r = k->sys->shutdown(m->fd, action == WIRE_SHUT_RD ? SHUT_RD : SHUT_RDWR);
	else if (action == WIRE_DISCONNECT)
		r = disconnect(k, m->fd);
	r = r == -1 ? -errno : 0;
	if (r == -ENOTCONN)
		r = 0; /* it listened: a worker that died had shut it down */
	FAULT(leave_done);
	if (action == WIRE_CLOSED) {
		leave_withdraw(k, member, true);
	} else {
		leave_release(k, member);
		group_steer(k, c->group);
		give_pump(k, c->group);
	}
	if (action == WIRE_CLOSED)
		unreserve(k, c);
	if (action == WIRE_CONNECTING)
		k->groups[c->group].list_at = k->now;
	return r;
}

void leave_clean_exit(struct keeper *k, int conn, bool alone)
{
	struct conn *c = &k->conn[conn];
	int member = c->member;

	c->clean = true;
	if (!alone || c->state != CONN_OWNER || member == NONE || leave_has_other_owner(k, member, c))
		return;
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group &&
		    (k->members[i].state == WIRE_EMPTY || member_takes(&k->members[i])))
			return; /* its index counts: released when the process is really gone */
	if (!group_supervised(k, k->members[member].group, k->members[member].slot))
		leave_withdraw(k, member, true);
}

void leave_evict_due(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	int group = m->group;

	if (member_queue(k, m) > 0)
		give_pump(k, group);
	if ((leave_others_live(k, member) || others_return(k, member)) && !leave_is_drained(k, member))
		return;
	if (!leave_others_live(k, member) && is_awaited(k, group))
		return;
	(void)group_list(k, group);
	FAULT(evict_due);
	k->groups[group].releasing = true;
	leave_release(k, member);
	leave_leftovers(k, group);
	group_steer(k, group);
	give_pump(k, group);
	group_release_if_empty(k, group);
}

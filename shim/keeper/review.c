/* See review.h. */
#include "review.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>

#include "../util/log.h"
#include "claim.h"
#include "give.h"
#include "group.h"
#include "leave.h"
#include "member.h"
#include "nudge.h"
#include "process.h"

enum ownership { OWNED, BEQUEATHED, SUSPECT, HELD, ORPHANED };

int review_holds(const struct member *m, uint32_t pid)
{
	struct stat st;

	if (pid == 0 || process_exiting(pid))
		return -ESRCH;
	return fstat(m->fd, &st) == -1 ? -errno : process_holds(pid, st.st_ino);
}

/* -> false: the process has closed the socket without our seeing it. */
static bool may_still_hold(const struct member *m, uint32_t pid)
{
	return review_holds(m, pid) != 0;
}

static enum ownership owned_by(const struct keeper *k, const struct conn *c)
{
	if (claim_accepts(k, c)) {
		if (c->fd != NONE)
			return c->dead ? BEQUEATHED : OWNED;
		return c->dead ? ORPHANED : SUSPECT;
	}
	if (c->fd != NONE || (!c->dead && may_still_hold(&k->members[c->member], c->pid)))
		return HELD;
	return ORPHANED;
}

/* By its best owner, which is NONE when there is not even a dead one. */
static enum ownership ownership(const struct keeper *k, int member, bool *ret_clean, int *ret_conn)
{
	enum ownership best = ORPHANED;

	*ret_clean = false;
	*ret_conn = NONE;
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];
		enum ownership o;

		if (!c->used || c->state != CONN_OWNER || c->member != member)
			continue;
		o = owned_by(k, c);
		if (o <= best) {
			best = o;
			*ret_conn = i;
		}
		*ret_clean |= c->clean || (o == ORPHANED && !c->dead); /* it lives and has closed it */
	}
	return best;
}

/* Nobody has proven to accept here: buckets stay only while the queue moves. */
static void watch(struct keeper *k, int member, int64_t patience_ms)
{
	struct member *m = &k->members[member];
	unsigned waiting = member_queue(k, m);

	m->watch_at = k->now + WATCH_MS;
	if (waiting == 0 || member_accepted(m) != m->stands_at) {
		m->stands_since = waiting ? k->now : 0;
		m->stands_at = member_accepted(m);
		return;
	}
	if (m->stands_since == 0)
		m->stands_since = k->now;
	if (k->now - m->stands_since >= patience_ms)
		m->condemned = true;
}

/* The kernel goes on sending to a UDP socket that no program leaves out, and nothing of that is given. */
static bool swallows(const struct keeper *k, int member)
{
	const struct group *g = &k->groups[k->members[member].group];

	return g->addr.proto == IPPROTO_UDP && !g->steered && g->mode != WIRE_MODE_SHARED &&
	       (g->beside || leave_others_live(k, member));
}

static void orphaned(struct keeper *k, int member, bool on_purpose)
{
	struct member *m = &k->members[member];

	if (on_purpose || swallows(k, member) || (!member_is_alone(k, member) && leave_others_live(k, member))) {
		leave_withdraw(k, member, true);
		return;
	}
	if (m->state != WIRE_ORPHAN || m->hold_until == NEVER) {
		m->hold_until = k->now + k->groups[m->group].hold_ms;
		log_info("slot %u of group '%s': process %u is gone", m->slot,
		         k->groups[m->group].name, m->pid);
	}
	if (m->state != WIRE_ORPHAN)
		m->idle_since = k->now;
	m->state = WIRE_ORPHAN;
	nudge_member_died(k, member);
	m->watch_at = NEVER;
	m->condemned = false;
	if (k->now >= m->hold_until) {
		if (!group_supervised(k, m->group, m->slot)) {
			leave_withdraw(k, member, false);
			return;
		}
		m->hold_until = k->now + k->groups[m->group].hold_ms;
	}
	give_ahead(k, member);
	group_steer(k, m->group);
	give_pump(k, m->group);
}

static bool stopping(const struct keeper *k, const struct member *m)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->stopping && m->slot >= c->first && m->slot < c->first + c->n &&
		    strcmp(c->launch, k->groups[m->group].name) == 0)
			return true;
	}
	return false;
}

/* Its process lives, and has lost its connection. */
static void suspect(struct keeper *k, int member, uint32_t pid)
{
	/* It cannot ask any more: a nudge of ours would be a client that says nothing. */
	if (k->members[member].watch_at == NEVER && !process_exiting(pid))
		nudge_member_ended(k, member);
	nudge_call(k, member);
	watch(k, member, SUSPECT_MS);
}

/* Owners that live, and have neither connection nor socket any more while others have the socket, are none
 * from now on: once they have ended as well, nobody could tell that they had closed it. */
static void forget_who_left(struct keeper *k, int member)
{
	for (int i = 0; i < k->conn_top; i++) {
		struct conn *c = &k->conn[i];

		if (!c->used || c->state != CONN_OWNER || c->member != member || c->fd != NONE ||
		    c->dead || !leave_has_other_owner(k, member, c) ||
		    may_still_hold(&k->members[member], c->pid))
			continue;
		c->state = CONN_READY;
		c->member = c->group = NONE;
	}
}

/* Somebody lives who has it, and nobody accepts: a master whose worker has ended. -> whether others are to
 * be dealt buckets, or none, because of it. */
static bool held(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	bool changed;

	if (m->state != WIRE_EMPTY) {
		log_info("slot %u of group '%s': nobody accepts there, it is kept for the next one",
		         m->slot, k->groups[m->group].name);
		nudge_member_died(k, member);
		m->idle_since = k->now;
		m->deaf = 0;
		m->pid = 0;
	}
	m->state = WIRE_EMPTY;
	m->hold_until = NEVER;
	m->watch_at = k->now + (k->now - m->idle_since < EVICT_MS ? WATCH_MS : EMPTY_MS);
	changed = review_empty(k, m->group);
	if (m->condemned)
		give_pump(k, m->group);
	return changed;
}

bool review_empty(struct keeper *k, int group)
{
	bool others = false, changed = false;

	for (int i = 0; i < k->member_top; i++)
		others |= k->members[i].used && k->members[i].group == group &&
		          k->members[i].state != WIRE_EMPTY && member_takes(&k->members[i]);
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group &&
		    k->members[i].state == WIRE_EMPTY && k->members[i].condemned != others) {
			k->members[i].condemned = others;
			changed = true;
		}
	return changed;
}

static void owned(struct keeper *k, int member, uint32_t pid)
{
	struct member *m = &k->members[member];

	if (m->state != WIRE_STUCK) {
		m->state = WIRE_LIVE;
		m->idle_since = 0;
	}
	if (m->watch_at != NEVER)
		nudge_call_off(k, member);
	m->pid = pid;
	m->condemned = false;
	m->watch_at = m->hold_until = NEVER;
}

void review_member(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	bool took = member_takes(m), changed = false, clean;
	enum ownership o;
	int conn;

	forget_who_left(k, member);
	claim_refresh(k, member);
	o = ownership(k, member, &clean, &conn);
	switch (o) {
	case OWNED:
		owned(k, member, k->conn[conn].pid);
		break;
	case BEQUEATHED:
		m->state = WIRE_ORPHAN;
		watch(k, member, BEQUEATHED_MS);
		break;
	case SUSPECT:
		if (!may_still_hold(m, k->conn[conn].pid)) {
			leave_withdraw(k, member, true);
			return;
		}
		suspect(k, member, k->conn[conn].pid);
		break;
	case HELD:
		if (!m->evict)
			changed = held(k, member);
		break;
	case ORPHANED:
		orphaned(k, member, clean || stopping(k, m));
		return;
	}
	if (changed || member_takes(m) != took)
		group_steer(k, m->group);
}

bool review_is_left(const struct keeper *k, int member)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->state == CONN_OWNER && c->member == member &&
		    (c->fd != NONE || (!c->dead && may_still_hold(&k->members[member], c->pid))))
			return false;
	}
	return true;
}

int64_t review_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!m->used)
			continue;
		if (m->watch_at < next)
			next = m->watch_at;
		if (m->evict && k->now + WATCH_MS < next)
			next = k->now + WATCH_MS;
		if (m->state == WIRE_ORPHAN && m->watch_at == NEVER && m->hold_until < next)
			next = m->hold_until;
	}
	return next;
}

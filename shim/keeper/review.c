/* See review.h. */
#include "review.h"

#include <string.h>
#include <sys/stat.h>

#include "../util/log.h"
#include "give.h"
#include "group.h"
#include "leave.h"
#include "member.h"
#include "nudge.h"
#include "process.h"

enum ownership { OWNED, BEQUEATHED, SUSPECT, ORPHANED };

static enum ownership ownership(const struct keeper *k, int member, bool *ret_clean,
                                uint32_t *ret_pid)
{
	enum ownership best = ORPHANED;

	*ret_clean = false;
	*ret_pid = 0;
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];
		enum ownership o;

		if (!c->used || c->state != CONN_OWNER || c->member != member)
			continue;
		if (c->fd != NONE)
			o = c->dead ? BEQUEATHED : OWNED;
		else
			o = c->dead ? ORPHANED : SUSPECT;
		if (o <= best) {
			best = o;
			*ret_pid = c->pid;
		}
		*ret_clean |= c->clean;
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

/* -> false: the process has closed the socket without our seeing it. */
static bool may_still_hold(const struct member *m, uint32_t pid)
{
	struct stat st;

	if (pid == 0 || process_exiting(pid) || fstat(m->fd, &st) == -1)
		return true;
	return process_holds(pid, st.st_ino) != 0;
}

static void orphaned(struct keeper *k, int member, bool on_purpose)
{
	struct member *m = &k->members[member];

	if (on_purpose || (!member_is_alone(k, member) && leave_others_live(k, member))) {
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

void review_member(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	bool took = member_takes(m), clean;
	uint32_t pid;

	switch (ownership(k, member, &clean, &pid)) {
	case OWNED:
		if (m->state != WIRE_STUCK)
			m->state = WIRE_LIVE;
		if (m->watch_at != NEVER)
			nudge_call_off(k, member);
		m->pid = pid;
		m->condemned = false;
		m->watch_at = m->hold_until = NEVER;
		break;
	case BEQUEATHED:
		m->state = WIRE_ORPHAN;
		watch(k, member, BEQUEATHED_MS);
		break;
	case SUSPECT:
		if (!may_still_hold(m, pid)) {
			leave_withdraw(k, member, true);
			return;
		}
		/* It cannot ask any more: a nudge of ours would be a client that says nothing. */
		if (m->watch_at == NEVER && !process_exiting(pid))
			nudge_member_ended(k, member);
		nudge_call(k, member);
		watch(k, member, SUSPECT_MS);
		break;
	case ORPHANED:
		orphaned(k, member, clean || stopping(k, m));
		return;
	}
	if (member_takes(m) != took)
		group_steer(k, m->group);
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

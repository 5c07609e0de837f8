/* See revive.h. */
#include "revive.h"

#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "../util/log.h"
#include "conn.h"
#include "fault.h"
#include "group.h"
#include "member.h"
#include "review.h"
#include "sockopt.h"

/* Empty, orphaned without a claimant to be, or on its way out. */
static bool is_left(const struct keeper *k, int member, int source)
{
	const struct member *m = &k->members[member], *s = &k->members[source];

	if (member == source || !m->used || !m->made || m->group != s->group || m->binder != s->binder ||
	    !m->page.at)
		return false;
	return ((m->state == WIRE_DRAINING && m->evict) ||
	        (m->state == WIRE_ORPHAN && m->watch_at == NEVER)) &&
	       review_is_left(k, member);
}

/* The options may have been changed since it was made. */
static bool is_still_like(const struct keeper *k, int member, int source)
{
	char option[SOCKOPT_NAME_MAX];

	return !sockopt_differs(k->sys, k->members[source].fd, k->members[member].fd, option);
}

static int choose(const struct keeper *k, int source)
{
	unsigned most = 0;
	int best = NONE;

	for (int i = 0; i < k->member_top; i++) {
		unsigned waiting;

		if (!is_left(k, i, source))
			continue;
		waiting = member_queue(k, &k->members[i]);
		if (best == NONE || waiting > most) {
			best = i;
			most = waiting;
		}
	}
	return best != NONE && is_still_like(k, best, source) ? best : NONE;
}

/* Its own as long as nobody has taken that since. */
static int slot_for(const struct keeper *k, const struct member *m)
{
	struct conn like = { .want = { .slot = m->slot } };
	bool taken;

	return group_pick_slot(k, m->group, &like, &taken);
}

/* As if it had just been made, but for its queue, its place in the kernel's array and its page. */
static void renew(struct keeper *k, int member, const struct conn *c, int slot, int source)
{
	struct member *m = &k->members[member];
	struct slot_stat *stat = &k->groups[m->group].slots[slot];

	m->slot = (uint32_t)slot;
	m->generation = ++stat->generation;
	stat->forked = true;
	m->weight = k->members[source].weight;
	m->state = WIRE_LIVE;
	m->pid = c->pid;
	m->deaf = c->deaf ? DEAF_ALWAYS : 0;
	m->evict = m->condemned = false;
	m->idle_since = m->moved_at = m->accepted_at = m->usual_ms = m->stands_since = 0;
	m->seen_accepted = member_accepted(m);
	m->hold_until = m->watch_at = NEVER;
	if (getrandom(m->token, sizeof(m->token), GRND_NONBLOCK) != sizeof(m->token))
		memset(m->token, 0, sizeof(m->token)); /* nobody can claim by it */
	(void)page_claim(&m->page, page_claimed(&m->page), WIRE_BY_CLAIM);
}

int revive_for(struct keeper *k, int conn, int source)
{
	int member = choose(k, source), slot;
	struct conn *c = &k->conn[conn];
	unsigned waiting, backlog;

	slot = member == NONE ? NONE : slot_for(k, &k->members[member]);
	if (slot < 0 || k->os->queue(k->sys, k->members[source].fd, &waiting, &backlog) < 0 ||
	    k->sys->listen(k->members[member].fd, (int)backlog) == -1)
		return NONE;
	conn_disown_all(k, member);
	renew(k, member, c, slot, source);
	c->group = k->members[member].group;
	c->want.weight = k->members[member].weight;
	c->state = CONN_OWNER;
	c->member = member;
	c->hold = HOLD_CLAIMANT;
	log_info("slot %d of group '%s': the socket of a worker that is gone for process %u", slot,
	         k->groups[c->group].name, c->pid);
	FAULT(made_revived);
	return member_joined(k, conn);
}

/* See claim.h. The word in the page is changed by the process that joined, too, at any time: here by
 * compare-exchange only. */
#include "claim.h"

#include <errno.h>
#include <string.h>

#include "../util/log.h"
#include "conn.h"
#include "fault.h"
#include "group.h"
#include "made.h"
#include "member.h"
#include "process.h"
#include "review.h"
#include "revive.h"
#include "snapshot.h"
#include "stuck.h"

static bool can_be_claimed(const struct member *m)
{
	return m->used && m->state != WIRE_STARTING && m->state != WIRE_DRAINING;
}

/* Its last owner has left, and it is being emptied. */
static bool can_be_revived(const struct member *m)
{
	return m->state == WIRE_DRAINING && m->evict;
}

static int by_token(const struct keeper *k, const uint8_t token[WIRE_TOKEN])
{
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];
		uint8_t differs = 0, any = 0;

		for (size_t b = 0; b < WIRE_TOKEN; b++) {
			differs |= m->token[b] ^ token[b];
			any |= token[b];
		}
		if (can_be_claimed(m) && !differs && any)
			return i;
	}
	return -ENOENT;
}

/* The cookie alone proves nothing: it can be read from sock_diag by everybody. */
static int by_descriptor(const struct keeper *k, uint64_t cookie, int fd)
{
	int member;

	if (fd == NONE || snapshot_identity(fd) != cookie)
		return -EBADF;
	member = member_by_cookie(k, cookie);
	if (member == NONE ||
	    !(can_be_claimed(&k->members[member]) || can_be_revived(&k->members[member])))
		return -ENOENT;
	return member;
}

/* Whoever had it left before the process that it was sent to has received it. That one's from here on. */
static int revive(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	struct conn any = { .want = { .slot = WIRE_SLOT_ANY } };
	bool taken = false;
	int slot;

	for (int i = 0; i < k->member_top; i++)
		taken |= i != member && k->members[i].used && k->members[i].group == m->group &&
		         k->members[i].slot == m->slot;
	slot = taken ? group_pick_slot(k, m->group, &any, &taken) : (int)m->slot;
	if (slot < 0)
		return slot;
	m->slot = (uint32_t)slot;
	m->evict = false;
	m->state = WIRE_ORPHAN; /* until the review of whose it is now */
	m->hold_until = m->watch_at = NEVER;
	conn_disown_all(k, member);
	log_info("slot %u of group '%s': a process that it was sent to has it", m->slot,
	         k->groups[m->group].name);
	return 0;
}

/* The process, other than the one that asks, that alone accepts from it; NONE: there is none. */
static const struct conn *claimant(const struct keeper *k, int member, const struct conn *but,
                                   uint32_t word)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (!c->used || c == but || c->dead || c->state != CONN_OWNER || c->member != member)
			continue;
		if (c->hold == HOLD_CLAIMANT || (c->hold == HOLD_JOINED && (word == WIRE_POLLED ||
		                                                            word == WIRE_ACCEPTED)))
			return c;
	}
	return NULL;
}

bool claim_accepts(const struct keeper *k, const struct conn *c)
{
	const struct member *m = &k->members[c->member];
	uint32_t word;

	if (c->hold != HOLD_JOINED)
		return c->hold != HOLD_ONLY;
	word = page_claimed(&m->page);
	return word == WIRE_POLLED || word == WIRE_ACCEPTED ||
	       (word == WIRE_UNCLAIMED && !m->was_claimed);
}

unsigned claim_owners(const struct keeper *k, int member)
{
	unsigned n = 0;

	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		n += c->used && !c->dead && c->state == CONN_OWNER && c->member == member &&
		     claim_accepts(k, c);
	}
	return n;
}

void claim_refresh(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->state == CONN_OWNER && c->member == member &&
		    c->hold == HOLD_CLAIMANT && (c->fd != NONE || !c->dead))
			return;
	}
	(void)page_claim(&m->page, WIRE_BY_CLAIM, WIRE_UNCLAIMED);
}

static void enter(struct keeper *k, struct conn *c, int member, enum hold hold)
{
	const struct member *m = &k->members[member];
	const struct group *g = &k->groups[m->group];

	if (c->state != CONN_OWNER) { /* as if it had reserved: it may listen again */
		c->want = (struct wire_reserve){ .addr = g->addr, .key = g->key, .mode = g->mode,
			                         .slot = WIRE_SLOT_ANY, .weight = m->weight };
		memcpy(c->want.group, g->name, sizeof(c->want.group));
	}
	c->state = CONN_OWNER;
	c->group = m->group;
	c->member = member;
	c->hold = hold;
}

/* A process that has lost its connection, perhaps by an exec, goes on with a new one. */
static void come_back(struct keeper *k, int conn, int member)
{
	struct conn *c = &k->conn[conn];

	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *o = &k->conn[i];

		if (!o->used || o == c || o->state != CONN_OWNER || o->member != member ||
		    o->fd != NONE || o->dead || o->pid == 0 || o->pid != c->pid)
			continue;
		enter(k, c, member, o->hold);
		conn_forget(k, i);
		return;
	}
}

static void beside(struct keeper *k, struct conn *c, int member, struct wire_joined *ret, int why)
{
	ret->why = why;
	enter(k, c, member, HOLD_BESIDE);
}

/* Who waits for a listener and does not accept may do so to fork who does (inetd, php-fpm's pm =
 * ondemand): no other queue for its children. Not for one that was sent the listener. */
static bool may_be_forked_to_accept(const struct conn *c, bool by_descriptor, const struct conn *other)
{
	if (!by_descriptor && !(c->state == CONN_OWNER && c->hold == HOLD_ONLY))
		return true; /* it has the token in its memory */
	return c->pid == 0 || other->pid == 0 || process_may_descend(c->pid, other->pid);
}

/* -> the member it owns then. */
static int own(struct keeper *k, int conn, int member, bool by_descriptor, struct wire_joined *ret)
{
	struct conn *c = &k->conn[conn];
	struct member *m = &k->members[member];
	const struct conn *other;
	uint32_t word;
	int r;

	if (k->groups[m->group].mode != WIRE_MODE_BALANCE || !m->page.at) {
		beside(k, c, member, ret, 0); /* one queue for all, or the newest one's for all of it */
		return member;
	}
	do {
		word = page_claimed(&m->page);
		other = claimant(k, member, c, word);
	} while (!other && !page_claim(&m->page, word, WIRE_BY_CLAIM));
	FAULT(claim_granted);
	m->was_claimed = true;
	k->groups[m->group].slots[m->slot].forked = true;
	if (!other) {
		m->deaf = c->deaf ? DEAF_ALWAYS : 0;
		enter(k, c, member, HOLD_CLAIMANT);
		stuck_claimed(k, member);
		return member;
	}
	if (other->hold == HOLD_JOINED && word == WIRE_POLLED &&
	    may_be_forked_to_accept(c, by_descriptor, other)) {
		beside(k, c, member, ret, -EBUSY);
		return member;
	}
	r = revive_for(k, conn, member);
	if (r < 0)
		r = made_for(k, conn, member, ret->option);
	if (r < 0) {
		beside(k, c, member, ret, r);
		return member;
	}
	ret->made = 1;
	stuck_claimed(k, r);
	return r;
}

int claim_request(struct keeper *k, int conn, const struct wire_claim *claim, int fd,
                  struct wire_joined *ret)
{
	struct conn *c = &k->conn[conn];
	bool revived;
	int member, r;

	if (c->state == CONN_OWNER && c->hold == HOLD_CLAIMANT && k->members[c->member].made) {
		ret->made = 1; /* a worker died in the middle of it */
		return member_joined(k, conn);
	}
	member = claim->cookie ? by_descriptor(k, claim->cookie, fd) : by_token(k, claim->token);
	if (member < 0)
		return member;
	if (c->state == CONN_OWNER && c->member != member)
		return -EBADF;
	revived = can_be_revived(&k->members[member]);
	r = revived ? revive(k, member) : 0;
	if (r < 0)
		return r;
	come_back(k, conn, member);
	r = member;
	if (claim->want == WIRE_WANT_OWN && !(c->state == CONN_OWNER && c->hold == HOLD_CLAIMANT))
		r = own(k, conn, member, claim->cookie != 0, ret);
	else if (claim->want == WIRE_WANT_HOLD)
		enter(k, c, member, HOLD_ONLY);
	else if (c->state != CONN_OWNER)
		enter(k, c, member, HOLD_BESIDE);
	review_member(k, member);
	if (revived)
		group_steer(k, k->members[member].group);
	return r;
}

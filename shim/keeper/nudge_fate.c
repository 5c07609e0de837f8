/* The part of nudge.h that is about what becomes of one after it is sent, and the flag in the page that
 * makes its shard ask about it. */
#include "nudge.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "../util/log.h"
#include "give.h"
#include "member.h"
#include "snapshot.h"

/* One that went to nobody in particular and was never asked about: a stranger may have it. While it
 * is open every accept of its group is asked about; closed, it is a client that has hung up. */
#define NOBODYS_MS 60000

/* Is there one of which it is not known who will have it? */
static bool awaits_anybody(const struct keeper *k, int group)
{
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].group == group && k->nudges[i].member == NONE)
			return true;
	return false;
}

void nudge_call_all(struct keeper *k, int group, bool on)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group && k->members[i].page.at &&
		    (on || nudge_outstanding(k, i) == 0))
			page_nudged(&k->members[i].page, on);
}

void nudge_end(struct keeper *k, int nudge)
{
	struct nudge *n = &k->nudges[nudge];
	struct member *m = &k->members[n->member == NONE ? 0 : n->member];

	/* Not before it is committed: a worker that dies must still know it. And the other end, which
	 * resets the connection, is waiting for an answer. */
	state_close_late(k, n->fd, n->cookie);
	n->used = false;
	if (n->member != NONE && m->used && m->page.at && nudge_outstanding(k, n->member) == 0 &&
	    !awaits_anybody(k, m->group))
		page_nudged(&m->page, false);
	if (n->member == NONE && n->group != NONE && !awaits_anybody(k, n->group))
		nudge_call_all(k, n->group, false);
}

void nudge_answered(struct keeper *k, int nudge)
{
	if (k->nudges[nudge].member != NONE)
		k->members[k->nudges[nudge].member].deaf = 0;
	nudge_end(k, nudge);
}

void nudge_call(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	if (m->page.at)
		page_nudged(&m->page, true);
}

void nudge_call_again(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	if (m->page.at && (nudge_outstanding(k, member) > 0 || awaits_anybody(k, m->group)))
		page_nudged(&m->page, true);
}

void nudge_call_off(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	if (m->page.at && nudge_outstanding(k, member) == 0 && nudge_pending(k, m->group) == 0 &&
	    !awaits_anybody(k, m->group))
		page_nudged(&m->page, false);
}

void nudge_member_died(struct keeper *k, int member)
{
	for (int i = 0; i < k->nudge_top; i++) {
		struct nudge *n = &k->nudges[i];

		if (!n->used || n->member != member)
			continue;
		if (n->unsent)
			nudge_end(k, i);
		else
			n->late = n->gave_up = true;
	}
}

void nudge_member_ended(struct keeper *k, int member)
{
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].member == member)
			nudge_end(k, i);
}

/* Was connect(2) called? Else nobody will ever ask about it. */
static bool is_on_its_way(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state != TCP_CLOSE;
}

void nudge_restore(struct keeper *k)
{
	for (int i = 0; i < k->nudge_top; i++) {
		struct nudge *n = &k->nudges[i];

		if (n->used && snapshot_identity(n->fd) != n->cookie)
			n->used = false;
		else if (n->used && !is_on_its_way(n->fd))
			nudge_end(k, i);
		else if (n->used)
			nudge_hang_up(k, i);
	}
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].page.at)
			page_nudged(&k->members[i].page, nudge_outstanding(k, i) > 0);
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].member == NONE && k->nudges[i].group != NONE)
			nudge_call_all(k, k->nudges[i].group, true);
}

/* Somebody who lives has, or will have, it; a nudge to one that died is taken out with its queue. */
static bool may_be_taken(const struct keeper *k, const struct nudge *n)
{
	const struct member *m = &k->members[n->member == NONE ? 0 : n->member];

	return n->used && n->gave_up && n->member != NONE && m->used &&
	       (m->state == WIRE_LIVE || m->state == WIRE_STUCK);
}

/* Out of the queue, and nobody asks: the server has it for a client that says nothing, and may wait for
 * it as long as it is open, and the shard is sent no more than two. Closed, it is one that hung up. */
static void look_for_taken(struct keeper *k)
{
	for (int i = 0; i < k->nudge_top; i++) {
		struct nudge *n = &k->nudges[i];

		if (!may_be_taken(k, n) || n->look_at > k->now)
			continue;
		n->look_at = k->now + UNSEEN_MS;
		if (member_queue(k, &k->members[n->member]) > 0)
			continue;
		give_pump(k, n->group);
		nudge_end(k, i);
	}
}

void nudge_on_time(struct keeper *k)
{
	look_for_taken(k);
	for (int i = 0; i < k->nudge_top; i++) {
		struct nudge *n = &k->nudges[i];
		struct member *m;

		if (n->used && n->member == NONE && n->sent_at + NOBODYS_MS <= k->now) {
			nudge_end(k, i);
			continue;
		}
		if (n->used && !n->late && n->sent_at + LATE_MS <= k->now && n->group != NONE) {
			n->late = true;
			give_pump(k, n->group);
		}
		if (!n->used || n->gave_up || n->sent_at + NUDGE_MS > k->now)
			continue;
		if (n->group == NONE) {
			nudge_end(k, i);
			continue;
		}
		n->gave_up = true; /* a busy shard may still fetch it */
		nudge_hang_up(k, i);
		n->look_at = k->now + UNSEEN_MS;
		if (n->member == NONE) {
			give_pump(k, n->group);
			continue;
		}
		m = &k->members[n->member];
		if (!n->probe && ++m->deaf == DEAF_MAX)
			log_warn("slot %u of group '%s' answers no nudges: waiting connections go to the others",
			         m->slot, k->groups[m->group].name);
		give_pump(k, m->group);
	}
}

int64_t nudge_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->nudge_top; i++) {
		const struct nudge *n = &k->nudges[i];

		if (n->used && !n->late && n->group != NONE && n->sent_at + LATE_MS < next)
			next = n->sent_at + LATE_MS;
		if (n->used && !n->gave_up && n->sent_at + NUDGE_MS < next)
			next = n->sent_at + NUDGE_MS;
		if (may_be_taken(k, n) && n->look_at < next)
			next = n->look_at;
		if (n->used && n->member == NONE && n->sent_at + NOBODYS_MS < next)
			next = n->sent_at + NOBODYS_MS;
	}
	return next;
}

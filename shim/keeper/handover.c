/* See handover.h. Whether a shard is ready is state, and so is the order: a worker's end moves nobody. */
#include "handover.h"

#include <netinet/in.h>
#include <stdatomic.h>

#include "../util/log.h"
#include "group.h"
#include "member.h"
#include "nudge.h"

#define LOOK_MS 500 /* how often those are looked at who are not known to accept */

/* Of two shards, which one gets new connections? While nobody is known to accept the oldest does: it
 * is the likeliest to be the first. */
static bool comes_before(const struct member *a, const struct member *b)
{
	if (a->ready != b->ready)
		return a->ready;
	return a->ready ? a->order > b->order : a->order < b->order;
}

static int newest(const struct keeper *k, int group)
{
	int best = NONE;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m->used && m->group == group && member_takes(m) &&
		    (best == NONE || comes_before(m, &k->members[best])))
			best = i;
	}
	return best;
}

/* By the clock, so that the order holds over keepers; never twice the same. */
static uint64_t next_order(struct keeper *k, struct group *g)
{
	uint64_t now = (uint64_t)k->now;

	g->order = now > g->order ? now : g->order + 1;
	return g->order;
}

static void set_order(struct member *m, uint64_t order)
{
	m->order = order;
	if (m->page.at)
		atomic_store(&m->page.at->order, order);
}

/* A datagram needs no accept; who cannot be asked is taken at its word. */
static bool can_be_asked(struct keeper *k, const struct member *m)
{
	return m->page.at && m->deaf < DEAF_MAX && group_is_heard(k, m->group);
}

void handover_joined(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	set_order(m, next_order(k, &k->groups[m->group]));
	m->ready = !m->page.at;
	k->groups[m->group].probe_at = 0;
}

void handover_rejoined(struct keeper *k, int member, uint64_t order)
{
	struct member *m = &k->members[member];

	m->ready = true; /* it came back at an accept */
	if (order > (uint64_t)k->now)
		order = (uint64_t)k->now;
	set_order(m, order);
}

/* A slot that is known by its index alone: when it has the buckets it keeps them until it is back. */
static bool is_ghost(const struct group *g, uint16_t slot)
{
	return g->ghosts > 0 && slot < BUCKETS_MAX && g->ghost_index[slot] != WIRE_NO_INDEX;
}

void handover_deal(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	struct bucket_slot one = { .weight = 1, .live = true };
	int best = newest(k, group);

	if (best == NONE || is_ghost(g, g->table.owner[0]))
		return;
	one.slot = (uint16_t)k->members[best].slot;
	(void)bucket_deal(&g->table, &one, 1);
}

/* Its probe is out of its queue, and nobody has asked about it: it accepts by ways that we do not see. */
static bool took_unseen(const struct keeper *k, int member)
{
	if (member_queue(k, &k->members[member]) > 0)
		return false;
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].member == member && k->nudges[i].gave_up)
			return true;
	return false;
}

static void ready(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	struct group *g = &k->groups[m->group];

	m->ready = true;
	if (newest(k, m->group) != member || g->table.owner[0] == m->slot)
		return;
	log_info("slot %u of group '%s' (pid %u) gets all new connections", m->slot, g->name, m->pid);
	group_steer(k, m->group);
}

void handover_heard(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];

	if (k->groups[m->group].mode == WIRE_MODE_HANDOVER && !m->ready)
		ready(k, member);
}

bool handover_passes_over(const struct keeper *k, int member)
{
	const struct member *m = &k->members[member];

	if (k->groups[m->group].mode != WIRE_MODE_HANDOVER)
		return false;
	for (int i = 0; i < k->member_top; i++) {
		const struct member *o = &k->members[i];

		if (o->used && o->group == m->group && o->state == WIRE_LIVE && member_takes(o) &&
		    o->deaf < DEAF_MAX && o->watch_at == NEVER && comes_before(o, m))
			return true;
	}
	return false;
}

/* Not a suspect (live, but watched): that one cannot answer. */
static bool is_unproven(const struct keeper *k, int member)
{
	const struct member *m = &k->members[member];

	return m->used && k->groups[m->group].mode == WIRE_MODE_HANDOVER && !m->ready &&
	       member_takes(m) && (m->state == WIRE_ORPHAN || m->watch_at == NEVER);
}

void handover_probe(struct keeper *k, int group)
{
	if (k->groups[group].mode != WIRE_MODE_HANDOVER)
		return;
	k->groups[group].probe_at = k->now + LOOK_MS;
	for (int i = 0; i < k->member_top; i++) {
		struct member *m = &k->members[i];

		if (m->group != group || !is_unproven(k, i))
			continue;
		if (member_accepted(m) > 0 || !can_be_asked(k, m) || took_unseen(k, i))
			ready(k, i);
		else if (k->groups[group].steered)
			nudge_probe(k, i);
	}
}

void handover_on_time(struct keeper *k)
{
	for (int i = 0; i < k->member_top; i++)
		if (is_unproven(k, i) && k->groups[k->members[i].group].probe_at <= k->now)
			handover_probe(k, k->members[i].group);
}

int64_t handover_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->member_top; i++)
		if (is_unproven(k, i) && k->groups[k->members[i].group].probe_at < next)
			next = k->groups[k->members[i].group].probe_at;
	return next;
}

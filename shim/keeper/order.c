/* See order.h. */
#include "order.h"

#include <netinet/in.h>

#include "../util/log.h"
#include "group.h"
#include "nudge.h"

#define TRIES_MAX 3 /* per change of the array: who does not answer then never will */

void order_wanted(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];

	if (g->addr.proto != IPPROTO_TCP || g->order_at != NEVER)
		return;
	if (g->order_changes != g->map.changes)
		g->order_tries = 0;
	g->order_changes = g->map.changes;
	if (g->order_tries < TRIES_MAX)
		g->order_at = k->now + (g->order_tries > 0 ? NUDGE_MS : 0);
}

static bool is_probed(const struct keeper *k, int group, unsigned index)
{
	for (int i = 0; i < k->nudge_top; i++) {
		const struct nudge *n = &k->nudges[i];

		if (n->used && n->group == group && n->index == index &&
		    n->changes == k->groups[group].map.changes)
			return true;
	}
	return false;
}

static void probe(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];

	index_doubt(&g->map);
	for (unsigned i = 0; i < g->map.n; i++)
		if (!g->map.e[i].certain && !is_probed(k, group, i) &&
		    nudge_prepare_index(k, group, (uint16_t)i) < 0)
			break;
	g->order_tries++;
	nudge_send(k, group);
}

void order_answered(struct keeper *k, int nudge, int member)
{
	const struct nudge *n = &k->nudges[nudge];
	struct group *g = &k->groups[k->members[member].group];

	if (n->index == WIRE_NO_INDEX || n->group != k->members[member].group ||
	    n->changes != g->map.changes || g->ghosts > 0 || g->steered)
		return;
	if (!index_prove(&g->map, n->index, k->members[member].cookie))
		return;
	log_debug("slot %u of group '%s' has index %u", k->members[member].slot, g->name, n->index);
	group_steer(k, n->group);
	if (g->steered)
		log_warn("group '%s' is steered again", g->name);
}

void order_on_time(struct keeper *k)
{
	for (int i = 0; i < k->group_top; i++) {
		struct group *g = &k->groups[i];

		if (!g->used || g->order_at > k->now)
			continue;
		g->order_at = NEVER;
		if (g->steered || !group_is_heard(k, i))
			continue;
		(void)group_list(k, i);
		probe(k, i);
		if (!g->steered)
			order_wanted(k, i);
	}
}

int64_t order_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->group_top; i++)
		if (k->groups[i].used && k->groups[i].order_at < next)
			next = k->groups[i].order_at;
	return next;
}

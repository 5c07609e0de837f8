/* See adopt.h. What a legacy says comes from a shard's memory: every number in it is checked. */
#include "adopt.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "give.h"
#include "group.h"
#include "member.h"
#include "nudge.h"

/* Stands for a socket that we know by its index alone. Real cookies count from 1. */
#define GHOST(slot) (UINT64_C(1) << 63 | (slot))

_Static_assert(WIRE_PAGE_BUCKETS == BUCKETS_MAX, "a legacy has room for every table");

static int read_legacy(int fd, struct wire_legacy *ret)
{
	ssize_t n = pread(fd, ret, sizeof(*ret), 0);

	if (n != (ssize_t)sizeof(*ret) || (atomic_load(&ret->version) & 1) || ret->slot >= BUCKETS_MAX)
		return -EINVAL;
	return 0;
}

static bool is_bucket_slot(uint16_t slot)
{
	return slot < BUCKETS_MAX || slot == BUCKET_NONE;
}

/* Is it a map that a keeper can have left: a table, and every index once. */
static bool legacy_is_sound(const struct wire_legacy *l)
{
	static uint8_t used[INDEX_MAX];

	memset(used, 0, sizeof(used));
	if (l->buckets < BUCKETS_MIN || l->buckets > BUCKETS_MAX || (l->buckets & (l->buckets - 1)) ||
	    l->sockets > INDEX_MAX)
		return false;
	for (unsigned b = 0; b < l->buckets; b++)
		if (!is_bucket_slot(l->owner[b]) || !is_bucket_slot(l->home[b]))
			return false;
	for (unsigned s = 0; s < BUCKETS_MAX; s++) {
		if (l->index_of[s] == WIRE_NO_INDEX)
			continue;
		if (l->index_of[s] >= l->sockets || used[l->index_of[s]]++)
			return false;
	}
	for (unsigned i = 0; i < l->sockets; i++)
		if (!used[i])
			return false; /* an orphan that ended with its keeper, or a stranger */
	return true;
}

static void take_over(struct group *g, const struct wire_legacy *l)
{
	g->seed = l->seed;
	g->table.n = (uint16_t)l->buckets;
	memcpy(g->table.owner, l->owner, sizeof(l->owner));
	memcpy(g->table.home, l->home, sizeof(l->home));
	g->map.n = l->sockets;
	g->map.lost = false;
	g->ghosts = 0;
	for (unsigned s = 0; s < BUCKETS_MAX; s++) {
		g->ghost_index[s] = l->index_of[s];
		if (l->index_of[s] == WIRE_NO_INDEX)
			continue;
		g->map.e[l->index_of[s]] = (struct index_entry){ .cookie = GHOST(s), .certain = true };
		g->ghosts++;
	}
}

bool adopt_is_unchanged(const struct group *g, const uint64_t *cookies, size_t n)
{
	size_t unknown = 0;

	for (size_t i = 0; i < n; i++)
		unknown += index_find(&g->map, cookies[i]) == -ENOENT;
	return n == g->map.n && unknown == g->ghosts;
}

void adopt_give_up(struct group *g)
{
	memset(g->ghost_index, 0xff, sizeof(g->ghost_index));
	g->ghosts = 0;
}

static bool is_new(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group)
			return false;
	return k->groups[group].map.n == 0;
}

/* Its server has listened, under whatever keeper or none, and brings no map. */
static int adopt_bare(struct keeper *k, int conn, const struct wire_rejoin *rejoin, int fd)
{
	struct conn *c = &k->conn[conn];
	bool taken;
	int slot = group_pick_slot(k, c->group, c, &taken), member;

	if (slot < 0)
		return slot;
	member = member_adopt(k, conn, rejoin, fd, (uint32_t)slot,
	                      k->groups[c->group].slots[slot].generation + 1);
	if (member < 0)
		return member;
	nudge_call_again(k, member);
	(void)group_list(k, c->group);
	group_steer(k, c->group);
	give_pump(k, c->group);
	return member;
}

int adopt_rejoin(struct keeper *k, int conn, const struct wire_rejoin *rejoin, int fd, int legacy_fd)
{
	static struct wire_legacy l; /* of the one thread there is */
	bool first;
	int group = k->conn[conn].group, member, r;
	struct group *g = &k->groups[group];

	if (legacy_fd == NONE)
		return adopt_bare(k, conn, rejoin, fd);
	r = read_legacy(legacy_fd, &l);
	if (r < 0)
		return r;
	first = is_new(k, group) && legacy_is_sound(&l);
	if (first)
		take_over(g, &l);
	member = member_adopt(k, conn, rejoin, fd, l.slot, l.generation);
	if (member < 0) {
		if (is_new(k, group))
			adopt_give_up(g);
		return member;
	}
	if (g->ghosts > 0 && g->ghost_index[l.slot] != WIRE_NO_INDEX) {
		g->map.e[g->ghost_index[l.slot]].cookie = rejoin->cookie;
		g->ghost_index[l.slot] = WIRE_NO_INDEX;
		g->ghosts--;
	}
	nudge_call_again(k, member);
	(void)group_list(k, group);
	if (first && g->ghosts > 0)
		nudge_wake_ghosts(k, group);
	else
		group_steer(k, group);
	log_info("slot %u of group '%s' is back, %u not yet", l.slot, g->name, g->ghosts);
	return member;
}

void adopt_leave_legacy(struct keeper *k, int group, const uint32_t index_of[BUCKETS_MAX])
{
	const struct group *g = &k->groups[group];

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];
		struct wire_legacy *l;

		if (!m->used || m->group != group || !m->page.at ||
		    (m->state != WIRE_LIVE && m->state != WIRE_EMPTY))
			continue;
		l = &m->page.at->legacy;
		atomic_fetch_add(&l->version, 1);
		l->slot = m->slot;
		l->generation = m->generation;
		l->seed = g->seed;
		l->buckets = g->table.n;
		l->sockets = g->map.n;
		memcpy(l->owner, g->table.owner, sizeof(l->owner));
		memcpy(l->home, g->table.home, sizeof(l->home));
		for (unsigned s = 0; s < BUCKETS_MAX; s++)
			l->index_of[s] = index_of[s] < WIRE_NO_INDEX ? (uint16_t)index_of[s] : WIRE_NO_INDEX;
		atomic_fetch_add(&l->version, 1);
	}
}

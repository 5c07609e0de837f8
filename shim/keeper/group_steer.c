/* The part of group.h that steers: from who takes connections to the program in the kernel. */
#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../steer/cpu.h"
#include "../steer/program.h"
#include "../util/log.h"
#include "adopt.h"
#include "fault.h"
#include "handover.h"
#include "member.h"
#include "nudge.h"
#include "order.h"
#include "review.h"

/* Scratch space of the one thread there is: too large for the stack. */
static struct program_insn program[PROGRAM_MAX];
static struct bucket_slot dealt[BUCKETS_MAX];
static uint32_t index_of[BUCKETS_MAX];
static struct program_rule rules[NUDGES_MAX];

/* Slots that take part, and those whose home waits for them. */
static size_t list_slots(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	static uint8_t seen[BUCKETS_MAX]; /* 1: home kept, 2: live */
	size_t n = 0;

	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!m->used || m->group != group || m->slot >= BUCKETS_MAX ||
		    m->state == WIRE_STARTING || m->state == WIRE_DRAINING)
			continue;
		seen[m->slot] |= 1;
		if (member_takes(m))
			seen[m->slot] |= 2;
	}
	for (uint32_t s = 0; g->ghosts > 0 && s < BUCKETS_MAX; s++)
		if (g->ghost_index[s] != WIRE_NO_INDEX) /* who had none may be one that nobody serves */
			seen[s] |= bucket_count(&g->table, (uint16_t)s) > 0 ? 3 : 1;
	for (uint32_t s = 0; s < BUCKETS_MAX; s++) {
		if (g->slots[s].home_until > k->now ||
		    (g->slots[s].generation > 0 && group_supervised(k, group, s)))
			seen[s] |= 1;
		if (!seen[s])
			continue;
		dealt[n].slot = (uint16_t)s;
		dealt[n].weight = 1;
		dealt[n].live = (seen[s] & 2) != 0;
		dealt[n].anybodys = g->slots[s].forked;
		n++;
	}
	return n;
}

/* Who gets which buckets, by the group's mode and key. */
static void deal(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	size_t n;
	int cpus;

	if (g->mode == WIRE_MODE_HANDOVER) {
		handover_deal(k, group);
		return;
	}
	n = list_slots(k, group);
	if (n == 0)
		return;
	if (g->key == WIRE_KEY_CPU) {
		cpus = cpu_deal(&g->table, dealt, n);
		if (cpus > 0)
			g->cpus = (uint32_t)cpus;
		return;
	}
	(void)bucket_deal(&g->table, dealt, n);
}

static void not_steered(struct group *g, const char *why)
{
	char text[ADDR_TEXT_MAX];

	if (strcmp(g->why, why) != 0 && *why)
		log_warn("%s group '%s' is not steered: %s",
		         addr_format(&g->addr, text, sizeof(text)), g->name, why);
	(void)snprintf(g->why, sizeof(g->why), "%s", why);
	g->steered = false;
}

/* Which index each slot has; false: an order that cannot be proven. Any member to attach by. */
static bool find_indices(struct keeper *k, int group, int *ret_fd)
{
	const struct group *g = &k->groups[group];

	*ret_fd = NONE;
	memset(index_of, 0xff, sizeof(index_of));
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];
		int index;

		/* One that leaves may be out of the kernel's group already: a program attached to it
		 * then would be its own, and make its next listen(2) fail with EADDRINUSE. */
		if (!m->used || m->group != group || m->state == WIRE_STARTING ||
		    m->state == WIRE_DRAINING)
			continue;
		index = index_find(&g->map, m->cookie);
		if (index == -ENOENT)
			continue; /* disconnected behind our back */
		*ret_fd = m->fd;
		if (index == -EAGAIN)
			return false;
		if (m->slot < BUCKETS_MAX && (member_takes(m) || index_of[m->slot] == UINT32_MAX))
			index_of[m->slot] = (uint32_t)index;
	}
	for (uint32_t s = 0; g->ghosts > 0 && s < BUCKETS_MAX; s++)
		if (g->ghost_index[s] != WIRE_NO_INDEX)
			index_of[s] = g->ghost_index[s];
	return true;
}

static struct program_key key_of(const struct group *g)
{
	struct program_key key = { .seed = g->seed, .with_port = g->key != WIRE_KEY_SRC };

	if (g->mode == WIRE_MODE_HANDOVER)
		return key; /* all buckets are one shard's */
	if (g->key == WIRE_KEY_CPU)
		key.choice = PROGRAM_CPU;
	else if (g->key == WIRE_KEY_RANDOM)
		key.choice = PROGRAM_RANDOM;
	key.cpus = (uint16_t)g->cpus;
	return key;
}

/* Probes go to their indices; for everybody else the kernel's own hash decides. */
static void probe_program(struct keeper *k, int group, int fd)
{
	struct program_key key = { .seed = 0, .with_port = true };
	size_t n = nudge_rules(k, group, rules, NUDGES_MAX);
	int len;

	if (n == 0) {
		(void)k->os->attach(k->sys, fd, NULL, 0);
		return;
	}
	memset(index_of, 0xff, sizeof(index_of));
	len = program_build(&k->groups[group].table, &key, index_of, BUCKETS_MAX, rules, n, program,
	                    PROGRAM_MAX);
	if (len > 0)
		(void)k->os->attach(k->sys, fd, program, (unsigned)len);
}

void group_steer(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	struct program_key key;
	int fd, len, r;
	bool known;

	(void)review_empty(k, group);
	deal(k, group);
	key = key_of(g);
	if (g->mode == WIRE_MODE_SHARED) { /* there is only one socket to choose */
		memset(index_of, 0xff, sizeof(index_of));
		adopt_leave_legacy(k, group, index_of);
		return;
	}
	if (g->own_program) {
		not_steered(g, "a server attached a program of its own");
		return;
	}
	known = find_indices(k, group, &fd);
	if (fd == NONE)
		return;
	if (!(k->os->caps & OS_STEER)) {
		not_steered(g, "this system has no way to steer");
		return;
	}
	if (g->beside && g->mode != WIRE_MODE_HANDOVER) { /* there the newest has all */
		(void)k->os->attach(k->sys, fd, NULL, 0);
		not_steered(g, "shards of the keeper before are there, until they are started anew");
		return;
	}
	if (!known) {
		probe_program(k, group, fd);
		order_wanted(k, group);
		not_steered(g, "the order of the kernel's array is not certain (sockets that are not ours)");
		return;
	}
	len = program_build(&g->table, &key, index_of, BUCKETS_MAX, rules,
	                    nudge_rules(k, group, rules, NUDGES_MAX), program, PROGRAM_MAX);
	FAULT(attach_before);
	r = len < 0 ? len : k->os->attach(k->sys, fd, program, (unsigned)len);
	FAULT(attach_after);
	if (r < 0) {
		char why[sizeof(g->why)];

		(void)snprintf(why, sizeof(why), "attaching the program failed: %s", strerror(-r));
		not_steered(g, why);
		return;
	}
	g->steered = true;
	g->why[0] = '\0';
	adopt_leave_legacy(k, group, index_of);
}

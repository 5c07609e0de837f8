/* See stuck.h. Reads counters and queues only; costs one getsockopt per live shard and look. */
#include "stuck.h"

#include <netinet/in.h>

#include "../util/log.h"
#include "give.h"
#include "group.h"
#include "handover.h"
#include "member.h"
#include "nudge.h"

#define LOOKS    8   /* in the time of stuck= */
#define LOOK_MAX 500 /* ms */
#define LATE_MS  200 /* a look so late proves nothing: the machine, or we, stood still */

static int64_t period_ms(const struct group *g)
{
	int64_t p = g->stuck_ms / LOOKS;

	return p < 1 ? 1 : p > LOOK_MAX ? LOOK_MAX : p;
}

/* Only key=src promises a client its shard. key=cpu is a preference: to be served by another CPU's
 * shard is better than not to be. A handover group has no key. */
static bool is_watched(const struct group *g)
{
	return g->used && g->stuck_ms > 0 && g->addr.proto == IPPROTO_TCP && g->steered &&
	       (g->key != WIRE_KEY_SRC || g->mode == WIRE_MODE_HANDOVER);
}

static bool takes_part(const struct member *m, int group)
{
	return m->used && m->group == group && m->page.at &&
	       (m->state == WIRE_LIVE || m->state == WIRE_STUCK) && m->watch_at == NEVER;
}

/* What has happened since the last look. */
static void look(struct keeper *k, int member, bool late)
{
	struct member *m = &k->members[member];
	uint64_t accepted = member_accepted(m);

	m->waiting = member_queue(k, m);
	if (accepted != m->seen_accepted) {
		m->seen_accepted = accepted;
		m->accepted_at = m->moved_at = k->now;
		if (m->state == WIRE_STUCK)
			stuck_heard(k, member);
	}
	if (late || m->waiting == 0 || m->moved_at == 0)
		m->moved_at = k->now;
}

static bool stands_still(const struct keeper *k, const struct member *m)
{
	return m->state == WIRE_LIVE && m->seen_accepted > 0 && m->waiting > 0 &&
	       k->now - m->moved_at >= k->groups[m->group].stuck_ms;
}

/* Has somebody else nothing to do, and has accepted since? One that had no reason to is asked by a
 * probe: its answer counts at the next look. */
static bool others_are_idle(struct keeper *k, const struct member *still)
{
	bool idle = false;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m == still || !takes_part(m, still->group) || m->state != WIRE_LIVE || m->waiting > 0)
			continue;
		if (m->accepted_at > still->moved_at)
			idle = true;
		else if (m->seen_accepted > 0)
			nudge_probe(k, i);
	}
	return idle;
}

static void judge(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	struct group *g = &k->groups[m->group];

	m->state = WIRE_STUCK;
	m->idle_since = k->now;
	log_warn("slot %u of group '%s' (pid %u) has accepted nothing for %lld ms while %u wait: the others take over",
	         m->slot, g->name, m->pid, (long long)(k->now - m->moved_at), m->waiting);
	group_steer(k, m->group);
	give_pump(k, m->group);
	nudge_probe(k, member);
}

static void look_at_group(struct keeper *k, int group, bool late)
{
	unsigned members = 0, stuck = 0;

	for (int i = 0; i < k->member_top; i++) {
		if (!takes_part(&k->members[i], group))
			continue;
		look(k, i, late);
		members++;
		stuck += k->members[i].state == WIRE_STUCK;
	}
	for (int i = 0; i < k->member_top; i++) {
		if (!takes_part(&k->members[i], group))
			continue;
		if (k->members[i].state == WIRE_STUCK) {
			give_pump(k, group);
			nudge_probe(k, i);
		} else if (2 * (stuck + 1) <= members && stands_still(k, &k->members[i]) &&
		           others_are_idle(k, &k->members[i])) {
			stuck++;
			judge(k, i);
		}
	}
}

void stuck_on_time(struct keeper *k)
{
	for (int i = 0; i < k->group_top; i++) {
		struct group *g = &k->groups[i];

		if (!is_watched(g)) {
			g->look_at = NEVER;
			continue;
		}
		if (g->look_at == NEVER || g->look_at == 0)
			g->look_at = k->now + period_ms(g);
		if (k->now < g->look_at)
			continue;
		look_at_group(k, i, k->now - g->look_at > LATE_MS);
		g->look_at = k->now + period_ms(g);
	}
}

int64_t stuck_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->group_top; i++)
		if (is_watched(&k->groups[i]) && k->groups[i].look_at < next)
			next = k->groups[i].look_at;
	return next;
}

void stuck_heard(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	m->moved_at = m->accepted_at = k->now;
	handover_heard(k, member);
	if (m->state != WIRE_STUCK)
		return;
	m->state = WIRE_LIVE;
	log_warn("slot %u of group '%s' accepts again", m->slot, k->groups[m->group].name);
	group_steer(k, m->group);
}

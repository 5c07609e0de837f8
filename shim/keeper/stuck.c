/* See stuck.h. Reads counters and queues only; a look costs one poll, and a getsockopt for each shard
 * that connections wait for. */
#include "stuck.h"

#include <netinet/in.h>
#include <poll.h>

#include "../util/log.h"
#include "give.h"
#include "group.h"
#include "handover.h"
#include "member.h"
#include "nudge.h"

#define LOOKS    8   /* in the time of stuck= */
#define LOOK_MAX 250 /* ms */
#define FORGET   16  /* looks at a quicker accept, about, until a slow one is forgotten */
#define GRACE_MS 1000 /* more for a shard that has not shown yet what it takes for a connection */

/* Scratch space of the one thread there is. Of whom a look does not ask, it is taken for true. */
static bool waited_for[MEMBERS_MAX];
static struct pollfd polled[MEMBERS_MAX];

/* A worker that ends on a signal often has much to do between its last accept and its exit. */
#define LEAVING_MS 50    /* is not longer than stuck= */
#define RELOAD_MS  10000 /* after the last one has come */
#define APART_MS   1000  /* new ones come one after the other */

static int64_t patience_ms(const struct group *g, bool leaving)
{
	return leaving && g->stuck_ms > LEAVING_MS ? LEAVING_MS : g->stuck_ms;
}

static int64_t period_ms(const struct group *g)
{
	int64_t p = patience_ms(g, g->reloads) / LOOKS;

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

/* Was it there before those that came last? */
static bool is_overtaken(const struct group *g, const struct member *m)
{
	return g->reloads && m->claimed_at > 0 && m->claimed_at <= g->newest_at - APART_MS;
}

static bool reloads(const struct keeper *k, int group)
{
	const struct group *g = &k->groups[group];
	unsigned newer = 0, older = 0;

	if (g->newest_at == 0 || k->now - g->newest_at >= RELOAD_MS)
		return false;
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!takes_part(m, group) || m->claimed_at == 0)
			continue;
		if (m->claimed_at > g->newest_at - APART_MS)
			newer++;
		else
			older++;
	}
	return older > 0 && 2 * newer >= older;
}

void stuck_claimed(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	struct group *g = &k->groups[m->group];

	m->claimed_at = g->newest_at = k->now;
	if (g->look_at > k->now + LEAVING_MS / LOOKS) /* does it reload? */
		g->look_at = k->now + LEAVING_MS / LOOKS;
}

/* What waited from one look to the next had to wait for the one before it: so long that one took. */
static int64_t took_ms(const struct keeper *k, const struct member *m, uint64_t accepted)
{
	int64_t period = period_ms(&k->groups[m->group]);

	if (m->waiting > 0 && m->accepted_at > 0 && k->now - m->moved_at >= period)
		return k->now - m->accepted_at;
	return accepted > 1 ? period : 0;
}

static void has_moved(struct keeper *k, struct member *m, uint64_t accepted)
{
	int64_t took = m->state == WIRE_LIVE ? took_ms(k, m, accepted) : 0;

	if (took > m->usual_ms)
		m->usual_ms = took;
	else if (took > 0)
		m->usual_ms -= m->usual_ms / FORGET;
	m->moved_at = m->accepted_at = k->now;
}

/* Nearly all queues are empty, nearly always. */
static void ask_queues(struct keeper *k, int group)
{
	nfds_t n = 0;
	int r;

	for (int i = 0; i < k->member_top; i++)
		if (takes_part(&k->members[i], group))
			polled[n++] = (struct pollfd){ .fd = k->members[i].fd, .events = POLLIN };
	r = k->sys->poll(polled, n, 0);
	n = 0;
	for (int i = 0; i < k->member_top; i++)
		waited_for[i] = !takes_part(&k->members[i], group) || r < 0 || polled[n++].revents != 0;
}

/* What has happened since the last look. A late one: the machine, or we, stood still meanwhile, and
 * so may the shard have, for no fault of its own. */
static void look(struct keeper *k, int member, int64_t late_ms)
{
	struct member *m = &k->members[member];
	uint64_t accepted = member_accepted(m);

	if (m->moved_at > 0)
		m->moved_at = m->moved_at + late_ms < k->now ? m->moved_at + late_ms : k->now;
	if (accepted != m->seen_accepted) {
		if (m->state == WIRE_STUCK)
			stuck_heard(k, member);
		else
			has_moved(k, m, accepted - m->seen_accepted);
		m->seen_accepted = accepted;
	}
	m->waiting = waited_for[member] ? member_queue(k, m) : 0;
	if (m->waiting == 0 || m->moved_at == 0)
		m->moved_at = k->now;
}

/* For stuck=, and for twice what it has lately taken for a connection: else of four that are busy, with
 * a second for each client, those with a queue were stuck as soon as one has none. */
static bool stands_still(const struct keeper *k, const struct member *m, int64_t ahead_ms)
{
	int64_t still = k->now - m->moved_at + ahead_ms;
	bool leaving = is_overtaken(&k->groups[m->group], m);
	int64_t grace = m->usual_ms == 0 ? GRACE_MS : 0;

	return m->state == WIRE_LIVE && m->seen_accepted > 0 && m->waiting > 0 &&
	       still >= patience_ms(&k->groups[m->group], leaving) + (leaving ? 0 : grace) &&
	       (leaving || still >= 2 * m->usual_ms);
}

/* Has somebody else nothing to do, and accepts at this time? One that had no reason to is asked by a
 * probe: its answer counts at the next look. */
static bool others_are_idle(struct keeper *k, const struct member *still)
{
	int64_t fresh = k->now - 2 * period_ms(&k->groups[still->group]);
	bool idle = false;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m == still || !takes_part(m, still->group) || m->state != WIRE_LIVE || m->waiting > 0)
			continue;
		if (m->accepted_at > still->moved_at && m->accepted_at >= fresh)
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
	if (is_overtaken(g, m))
		log_info("slot %u of group '%s' (pid %u) seems to leave while %u wait: the new ones take over",
		         m->slot, g->name, m->pid, m->waiting);
	else
		log_warn("slot %u of group '%s' (pid %u) has accepted nothing for %lld ms while %u wait: the others take over",
		         m->slot, g->name, m->pid, (long long)(k->now - m->moved_at), m->waiting);
	give_ahead(k, member);
	group_steer(k, m->group);
	give_pump(k, m->group);
	nudge_probe(k, member);
}

static void look_at_group(struct keeper *k, int group, int64_t late_ms)
{
	unsigned members = 0, stuck = 0;

	k->groups[group].reloads = reloads(k, group);
	ask_queues(k, group);
	for (int i = 0; i < k->member_top; i++) {
		if (!takes_part(&k->members[i], group))
			continue;
		look(k, i, late_ms);
		members++;
		stuck += k->members[i].state == WIRE_STUCK;
	}
	for (int i = 0; i < k->member_top; i++) {
		if (!takes_part(&k->members[i], group))
			continue;
		if (k->members[i].state == WIRE_STUCK) {
			give_pump(k, group);
			nudge_probe(k, i);
		} else if (2 * (stuck + 1) <= members &&
		           stands_still(k, &k->members[i], period_ms(&k->groups[group])) &&
		           others_are_idle(k, &k->members[i]) && /* a look before: who must be asked */
		           stands_still(k, &k->members[i], 0)) {
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
		look_at_group(k, i, k->now - g->look_at);
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

	has_moved(k, m, 0);
	handover_heard(k, member);
	if (m->state != WIRE_STUCK)
		return;
	m->state = WIRE_LIVE;
	m->idle_since = 0;
	log_warn("slot %u of group '%s' accepts again", m->slot, k->groups[m->group].name);
	group_steer(k, m->group);
}

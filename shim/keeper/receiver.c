/* See receiver.h. */
#include "receiver.h"

#include "handover.h"
#include "member.h"
#include "nudge.h"

static bool can_receive(const struct member *m, int group)
{
	return m->used && m->group == group && m->state == WIRE_LIVE && m->page.at &&
	       member_takes(m) && m->deaf < DEAF_MAX && m->watch_at == NEVER;
}

bool receiver_exists(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (can_receive(&k->members[i], group))
			return true;
	return false;
}

/* The live shard with the fewest nudges before it. */
int receiver_choose(const struct keeper *k, int group)
{
	unsigned fewest = 2; /* at a time: one that is served, one that waits */
	int best = NONE;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];
		unsigned n;

		if (!can_receive(m, group) || handover_passes_over(k, i))
			continue;
		n = nudge_outstanding(k, i);
		if (n < fewest) {
			fewest = n;
			best = i;
		}
	}
	return best;
}

/* One that is only being looked at (a suspect, perhaps dying) may be able to again, or be replaced. */
bool receiver_all_deaf(const struct keeper *k, int group)
{
	bool any = false;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!m->used || m->group != group || !member_takes(m))
			continue;
		if (m->deaf < DEAF_MAX)
			return false;
		any = true;
	}
	return any;
}

static bool has_lost_connection(const struct member *m)
{
	return m->state == WIRE_LIVE && m->watch_at != NEVER && !m->condemned;
}

/* Whoever claimed in vain while we stood still waits where it was forked: in a socket that nobody is
 * known to accept from. */
static bool may_be_waited_for(const struct member *m)
{
	return m->state == WIRE_EMPTY;
}

void receiver_wake(struct keeper *k, int group)
{
	if (receiver_exists(k, group))
		return;
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!m->used || m->group != group || !m->page.at ||
		    !(has_lost_connection(m) || may_be_waited_for(m)))
			continue;
		if (nudge_all_given_up(k, i))
			nudge_member_ended(k, i);
		nudge_probe(k, i);
	}
}

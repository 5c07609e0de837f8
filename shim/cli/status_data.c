/* The keeper's answer, collected. Text from the wire is ended here, once. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

/* One more element of a growing array; NULL: no memory. */
static void *grow(void *array, size_t n, size_t size)
{
	return reallocarray(array, n + 1, size);
}

/* A worker of the keeper that dies while it answers is followed by one that answers from the start. */
static bool begins_anew(const struct status *s, const struct wire_status_group *head)
{
	for (size_t i = 0; i < s->n_groups; i++) {
		if (addr_equal(&s->groups[i].head.addr, &head->addr) &&
		    strncmp(s->groups[i].head.group, head->group, sizeof(head->group)) == 0)
			return true;
	}
	return false;
}

static int add_group(struct status *s, const struct wire_status_group *head)
{
	struct status_group *groups, *g;

	if (begins_anew(s, head))
		status_free(s);
	groups = grow(s->groups, s->n_groups, sizeof(*groups));
	if (groups == NULL)
		return -ENOMEM;
	s->groups = groups;
	g = &groups[s->n_groups++];
	memset(g, 0, sizeof(*g));
	g->head = *head;
	g->head.group[sizeof(g->head.group) - 1] = '\0';
	g->head.why[sizeof(g->head.why) - 1] = '\0';
	return 0;
}

static bool comes_after(const struct wire_status_slot *a, const struct wire_status_slot *b)
{
	return a->slot != b->slot ? a->slot > b->slot : a->generation > b->generation;
}

static int add_slot(struct status_group *g, const struct wire_status_slot *slot)
{
	struct wire_status_slot *slots = grow(g->slots, g->n_slots, sizeof(*slots));
	size_t i;

	if (slots == NULL)
		return -ENOMEM;
	g->slots = slots;
	for (i = g->n_slots++; i > 0 && comes_after(&slots[i - 1], slot); i--)
		slots[i] = slots[i - 1];
	slots[i] = *slot;
	return 0;
}

static int add_stranger(struct status_group *g, const struct wire_status_stranger *stranger)
{
	struct wire_status_stranger *all = grow(g->strangers, g->n_strangers, sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	g->strangers = all;
	all[g->n_strangers] = *stranger;
	all[g->n_strangers++].command[sizeof(stranger->command) - 1] = '\0';
	return 0;
}

static int add_launcher(struct status *s, const struct wire_status_launcher *launcher)
{
	struct wire_status_launcher *all = grow(s->launchers, s->n_launchers, sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	s->launchers = all;
	all[s->n_launchers] = *launcher;
	all[s->n_launchers++].group[sizeof(launcher->group) - 1] = '\0';
	return 0;
}

int status_add(struct status *s, const struct wire_packet *packet)
{
	struct status_group *last = s->n_groups > 0 ? &s->groups[s->n_groups - 1] : NULL;

	switch (packet->head.type) {
	case WIRE_STATUS_GROUP:
		return add_group(s, &packet->body.group);
	case WIRE_STATUS_SLOT:
		return last != NULL ? add_slot(last, &packet->body.status_slot) : -EPROTO;
	case WIRE_STATUS_STRANGER:
		return last != NULL ? add_stranger(last, &packet->body.stranger) : -EPROTO;
	case WIRE_STATUS_LAUNCHER:
		return add_launcher(s, &packet->body.launcher);
	default:
		return 0; /* not of this answer */
	}
}

static void free_group(struct status_group *g)
{
	free(g->slots);
	free(g->strangers);
}

size_t status_keep(struct status *s, const char *group)
{
	size_t i, n = 0;

	for (i = 0; i < s->n_groups; i++) {
		if (strcmp(s->groups[i].head.group, group) == 0)
			s->groups[n++] = s->groups[i];
		else
			free_group(&s->groups[i]);
	}
	s->n_groups = n;
	return n;
}

void status_free(struct status *s)
{
	size_t i;

	for (i = 0; i < s->n_groups; i++)
		free_group(&s->groups[i]);
	free(s->groups);
	free(s->launchers);
	s->groups = NULL;
	s->launchers = NULL;
	s->n_groups = s->n_launchers = 0;
}

const char *status_state(uint32_t state)
{
	switch (state) {
	case WIRE_STARTING:
		return "starting";
	case WIRE_LIVE:
		return "live";
	case WIRE_STUCK:
		return "stuck";
	case WIRE_DRAINING:
		return "draining";
	case WIRE_ORPHAN:
		return "orphan";
	case WIRE_EMPTY:
		return "empty";
	default:
		return "?";
	}
}

/* See sibling.h. */
#include "sibling.h"

#include <errno.h>
#include <netinet/in.h>

#include "../util/log.h"
#include "group.h"
#include "member.h"
#include "nudge.h"
#include "process.h"

/* Scratch space of the one thread there is: too large for the stack. */
static struct os_listener listed[INDEX_MAX];

/* The first holder of the address that has mapped the preload; 0: there is none. */
static uint32_t find(struct keeper *k, const struct addr *a)
{
	char command[32];
	int n;

	if (k->diag < 0)
		return 0;
	n = k->os->listeners(k->diag, a->proto, a->port, listed, INDEX_MAX);
	for (int i = 0; i < n; i++) {
		uint32_t pid;

		if (!addr_equal(&listed[i].addr, a) || listed[i].uid != k->uid)
			continue;
		pid = process_holder(listed[i].inode, command, sizeof(command));
		if (pid && process_maps_library(pid))
			return pid;
	}
	return 0;
}

int sibling_greet(struct keeper *k, const struct wire_reserve *want)
{
	uint32_t pid = find(k, &want->addr);
	char text[ADDR_TEXT_MAX];

	if (pid == 0)
		return -EADDRINUSE;
	if (want->addr.proto == IPPROTO_TCP && !process_has_uring(pid))
		return nudge_knock(k, &want->addr) == 0 ? -EAGAIN : -EADDRINUSE;
	if (!process_has_group(pid, want->group))
		return -EADDRINUSE;
	log_info("%s of group '%s': pid %u shared it under the keeper before",
	         addr_format(&want->addr, text, sizeof(text)), want->group, pid);
	return 1;
}

void sibling_meet(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];

	(void)group_list(k, group);
	for (unsigned i = 0; i < g->map.n; i++)
		g->map.e[i].marked = true;
	g->beside = sibling_are_there(k, group);
}

bool sibling_are_there(const struct keeper *k, int group)
{
	const struct group *g = &k->groups[group];

	for (unsigned i = 0; i < g->map.n; i++)
		if (g->map.e[i].marked && member_by_cookie(k, g->map.e[i].cookie) == NONE)
			return true;
	return false;
}

/* See made.h. Until it is committed such a socket has no buckets; a worker that dies before leaves its
 * cookie in the shared memory, so that the next one knows whose it is. */
#include "made.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../util/log.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "member.h"
#include "snapshot.h"

static int bind_and_listen(struct keeper *k, int fd, const struct member *m)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&k->groups[m->group].addr, &ss);
	unsigned waiting, backlog;
	int r = k->os->queue(k->sys, m->fd, &waiting, &backlog);

	if (r < 0)
		return r;
	if (k->sys->bind(fd, (struct sockaddr *)&ss, len) == -1)
		return -errno;
	FAULT(made_bound);
	r = k->sys->listen(fd, (int)backlog);
	FAULT(made_listens);
	return r == -1 ? -errno : 0;
}

/* -> a socket that listens. */
static int make(struct keeper *k, const struct member *m, char ret_option[SOCKOPT_NAME_MAX])
{
	const struct addr *a = &k->groups[m->group].addr;
	int fd = k->sys->socket(a->family, SOCK_STREAM | SOCK_CLOEXEC, a->proto), r;

	if (fd == -1)
		return -errno;
	k->shared->making = snapshot_identity(fd);
	FAULT(made_opened);
	r = sockopt_copy(k->sys, m->fd, fd, ret_option);
	FAULT(made_copied);
	if (r == 0)
		r = bind_and_listen(k, fd, m);
	if (r == 0)
		return fd;
	k->sys->close(fd);
	k->shared->making = 0;
	return r;
}

/* Whoever may not have one at all; the slot it would have. */
static int find_slot(const struct keeper *k, int source, char ret_option[SOCKOPT_NAME_MAX])
{
	struct conn any = { .want = { .slot = WIRE_SLOT_ANY } };
	const struct group *g = &k->groups[k->members[source].group];
	bool taken;

	if (g->own_program) { /* it counts on its own sockets' order */
		(void)snprintf(ret_option, SOCKOPT_NAME_MAX, "SO_ATTACH_REUSEPORT_CBPF");
		return -EOPNOTSUPP;
	}
	return group_pick_slot(k, k->members[source].group, &any, &taken);
}

/* The socket listens: it is a member from here on. */
static void record(struct keeper *k, int conn, int source, int member, int slot, int fd)
{
	struct conn *c = &k->conn[conn];
	struct member *m = &k->members[member];
	struct group *g = &k->groups[k->members[source].group];

	c->group = k->members[source].group;
	c->want.weight = k->members[source].weight;
	m->slot = (uint32_t)slot;
	m->generation = ++g->slots[slot].generation;
	g->slots[slot].forked = true;
	member_own(k, c, member, fd, snapshot_identity(fd));
	(void)page_claim(&m->page, WIRE_UNCLAIMED, WIRE_BY_CLAIM);
	m->made = m->was_claimed = true;
	m->binder = k->members[source].binder;
	k->members[source].followed = true;
	c->hold = HOLD_CLAIMANT;
	(void)group_list(k, c->group);
	state_commit(k);
	k->shared->making = 0;
	FAULT(made_recorded);
}

int made_for(struct keeper *k, int conn, int source, char ret_option[SOCKOPT_NAME_MAX])
{
	struct conn *c = &k->conn[conn];
	int slot = find_slot(k, source, ret_option), member, fd, r;

	if (slot < 0)
		return slot;
	member = member_new(k);
	if (member < 0)
		return member;
	k->members[member].group = k->members[source].group;
	k->members[member].state = WIRE_STARTING;
	r = page_make(&c->page);
	if (r < 0)
		goto out;
	(void)group_list(k, k->members[source].group); /* one change of the kernel's array at a time */
	fd = r = make(k, &k->members[source], ret_option);
	if (r < 0)
		goto out;
	record(k, conn, source, member, slot, fd);
	log_info("slot %d of group '%s': a socket of its own for process %u", slot,
	         k->groups[c->group].name, c->pid);
	return member_joined(k, conn);
out:
	page_drop(&c->page);
	k->members[member].used = false;
	return r;
}

bool made_found(struct keeper *k, int fd)
{
	int taken;

	if (k->shared->making == 0 || snapshot_identity(fd) != k->shared->making)
		return false;
	(void)k->sys->fcntl(fd, F_SETFL, O_NONBLOCK); /* nobody else has it */
	while ((taken = k->sys->accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		if (!give_found(k, taken))
			k->sys->close(taken);
	k->sys->close(fd);
	k->shared->making = 0;
	return true;
}

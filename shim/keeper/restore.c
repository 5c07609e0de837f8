/* See restore.h. Every recorded descriptor is proven to be what it was; every other one is a
 * connection in the hands of the worker that died, or is closed. */
#include "restore.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/log.h"
#include "../util/num.h"
#include "claim.h"
#include "conn.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "leave.h"
#include "made.h"
#include "member.h"
#include "peer.h"
#include "process.h"
#include "snapshot.h"

#define FDS_MAX 65536 /* more than all that we can record; numbers are given lowest first */

static uint8_t known[FDS_MAX / 8], strange[FDS_MAX / 8];

static void note(uint8_t set[FDS_MAX / 8], int fd)
{
	if (fd >= 0 && fd < FDS_MAX)
		set[fd / 8] |= (uint8_t)(1u << (fd % 8));
}

static bool is_noted(const uint8_t set[FDS_MAX / 8], int fd)
{
	return fd < FDS_MAX && (set[fd / 8] & (1u << (fd % 8)));
}

static void know(int fd)
{
	note(known, fd);
}

/* The worker had committed that they are not ours, and died before it had closed them all. */
static void close_the_rest(struct keeper *k)
{
	for (; k->n_closing > 0; k->n_closing--) {
		int fd = k->closing[k->n_closing - 1].fd;

		if (snapshot_identity(fd) == k->closing[k->n_closing - 1].identity)
			close(fd);
	}
}

static void prove(struct keeper *k)
{
	for (int i = 0; i < k->conn_top; i++)
		if (k->conn[i].used)
			conn_prove(k, i);
	for (int i = 0; i < k->member_top; i++) {
		struct member *m = &k->members[i];

		if (!m->used)
			continue;
		if (m->state == WIRE_STARTING) {
			m->used = false; /* a join that was not finished: it will be asked for again */
			continue;
		}
		if (m->page.at && page_map(&m->page) < 0)
			log_warn("slot %u of group '%s': its page is lost", m->slot,
			         k->groups[m->group].name);
		if (snapshot_identity(m->fd) != m->cookie)
			member_vanished(k, i);
		else
			claim_refresh(k, i); /* a grant that was not committed */
	}
}

/* The fixed ones; those with an owner in the state. */
static void know_all(const struct keeper *k)
{
	const struct shared *s = k->shared;

	memset(known, 0, sizeof(known));
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		know(fd);
	know(k->listener);
	know(k->epoll);
	know(k->diag);
	know(s->ready_fd);
	know(s->vault.pidfd);
	know(s->worker.pidfd);
	for (int i = 0; i < k->member_top; i++) {
		if (!k->members[i].used)
			continue;
		know(k->members[i].fd);
		if (k->members[i].page.at)
			know(k->members[i].page.fd);
	}
	for (int i = 0; i < k->conn_top; i++) {
		if (!k->conn[i].used)
			continue;
		know(k->conn[i].fd);
		know(k->conn[i].pidfd);
		if (k->conn[i].page.at)
			know(k->conn[i].page.fd);
	}
	for (int i = 0; i < k->gift_top; i++)
		if (k->gifts[i].used)
			know(k->gifts[i].fd);
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used)
			know(k->nudges[i].fd);
}

/* One of ours: accepted from our listener, and not recorded. */
static bool is_client(const struct keeper *k, int fd)
{
	struct sockaddr_un own, its;
	socklen_t own_len = sizeof(own), its_len = sizeof(its);
	int listens = 0;
	socklen_t len = sizeof(listens);

	memset(&own, 0, sizeof(own));
	memset(&its, 0, sizeof(its));
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens &&
	       getsockname(k->listener, (struct sockaddr *)&own, &own_len) == 0 &&
	       getsockname(fd, (struct sockaddr *)&its, &its_len) == 0 &&
	       its.sun_family == AF_UNIX && own_len == its_len && memcmp(&own, &its, own_len) == 0;
}

static void deal_with(struct keeper *k, int fd)
{
	(void)epoll_ctl(k->epoll, EPOLL_CTL_DEL, fd, NULL);
	if (give_found(k, fd) || made_found(k, fd))
		return;
	if (is_client(k, fd) && conn_admit(k, fd) == 0)
		return;
	close(fd);
}

static void sweep(struct keeper *k)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	if (!dir) {
		log_warn("keeper: /proc/self/fd: %s: descriptors may be lost", strerror(errno));
		return;
	}
	know_all(k);
	memset(strange, 0, sizeof(strange));
	know(dirfd(dir));
	while ((e = readdir(dir))) {
		long fd;

		if (num_parse(e->d_name, strlen(e->d_name), 0, INT32_MAX, &fd) == 0 &&
		    !is_noted(known, (int)fd))
			note(strange, (int)fd);
	}
	closedir(dir);
	for (int i = 0; i < FDS_MAX; i++) /* not before: what comes of it has numbers too */
		if (is_noted(strange, i))
			deal_with(k, i);
}

/* Before any other request, which would need the outbox. The answer to a request that is not in its
 * socket any more was sent. */
static void answer(struct keeper *k)
{
	struct outbox *o = &k->outbox;
	struct wire_head head;
	ssize_t n = -1;

	if (!o->used)
		return;
	if (k->conn[o->conn].used && k->conn[o->conn].fd != NONE)
		n = recv(k->conn[o->conn].fd, &head, sizeof(head), MSG_DONTWAIT | MSG_PEEK);
	o->used = n == (ssize_t)sizeof(head) && head.seq == o->seq;
	if (o->used)
		conn_receive(k, o->conn);
}

static void restore_groups(struct keeper *k)
{
	for (int i = 0; i < k->group_top; i++)
		if (k->groups[i].used)
			(void)group_list(k, i);
	FAULT(restart_listed);
	for (int i = 0; i < k->group_top; i++) {
		if (!k->groups[i].used)
			continue;
		if (k->groups[i].releasing)
			leave_leftovers(k, i);
		group_steer(k, i);
		give_pump(k, i);
		group_release_if_empty(k, i);
	}
}

void restore(struct keeper *k)
{
	FAULT(restart_loaded);
	close_the_rest(k);
	page_watch_start();
	k->diag = k->os->listeners_open(); /* the old one may be in the middle of an answer: swept */
	prove(k);
	give_restore(k);
	FAULT(restart_proven);
	sweep(k);
	FAULT(restart_swept);
	restore_groups(k);
	for (int i = 0; i < k->conn_top; i++)
		if (k->conn[i].used)
			conn_restore(k, i);
	answer(k);
	FAULT(restart_steered);
}

/* See conn.h. A request is looked at, handled, committed together with its answer, answered, and only
 * then taken out of the socket: a worker that dies anywhere leaves it to the next, which finds either
 * the request untouched or its answer. A client drops an answer that it gets twice. */
#include "conn.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/log.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "member.h"
#include "nudge.h"
#include "peer.h"
#include "process.h"
#include "request.h"
#include "review.h"
#include "snapshot.h"

#define ATTEMPTS_MAX 3 /* workers that may die of one request */

int conn_watch_fd(struct keeper *k, int fd, enum conn_event kind, int conn)
{
	struct epoll_event e = { .events = EPOLLIN };

	e.data.u64 = (uint64_t)kind << 32 | (uint32_t)conn;
	if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &e) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(k->epoll, EPOLL_CTL_MOD, fd, &e) == 0)
		return 0;
	return -errno;
}

/* Whoever sent us a descriptor has the same open file: closing ours would not end its registration. */
static void unwatch_and_close(struct keeper *k, int fd)
{
	(void)epoll_ctl(k->epoll, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

int conn_watch_process(struct keeper *k, int conn, int pidfd)
{
	int r = conn_watch_fd(k, pidfd, EVENT_PROCESS, conn);

	if (r < 0) {
		close(pidfd);
		return r;
	}
	k->conn[conn].pidfd = pidfd;
	k->conn[conn].pidfd_id = snapshot_identity(pidfd);
	FAULT(hello_watched);
	return 0;
}

static void free_conn(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	int group = c->group;

	page_drop(&c->page);
	if (c->pidfd != NONE)
		unwatch_and_close(k, c->pidfd);
	k->conns--;
	k->foreign -= c->foreign;
	c->used = false;
	if (group != NONE && k->groups[group].used)
		group_release_if_empty(k, group);
}

void conn_forget(struct keeper *k, int conn)
{
	k->conn[conn].state = CONN_READY;
	k->conn[conn].member = NONE;
	free_conn(k, conn);
}

void conn_disown_all(struct keeper *k, int member)
{
	for (int i = 0; i < k->conn_top; i++) {
		struct conn *c = &k->conn[i];

		if (!c->used || c->state != CONN_OWNER || c->member != member)
			continue;
		c->state = CONN_READY;
		c->member = c->group = NONE;
		if (c->fd == NONE && c->dead)
			conn_forget(k, i);
	}
}

/* Something about an owner has changed; what neither connects nor lives any more is forgotten. */
static void conn_changed(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	bool owner = c->state == CONN_OWNER && c->member != NONE;
	bool over = c->fd == NONE && (c->dead || !owner);

	if (owner)
		review_member(k, c->member);
	/* A review may have released the member, and then nothing is left to wait for. */
	if (over || (c->fd == NONE && (c->state != CONN_OWNER || c->member == NONE)))
		free_conn(k, conn);
}

/* Its descriptor is closed. */
static void ended(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	bool launcher = c->n > 0;

	c->fd = NONE;
	if (k->outbox.used && k->outbox.conn == conn)
		k->outbox.used = false;
	give_conn_ended(k, conn);
	if (c->pidfd == NONE)
		c->dead = true; /* without a pidfd the connection is all we know of the process */
	if (c->state != CONN_OWNER)
		c->dead = true;
	if (c->group != NONE)
		give_pump(k, c->group);
	if (c->state == CONN_OWNER && c->member != NONE)
		nudge_call_again(k, c->member);
	conn_changed(k, conn);
	if (!launcher)
		return;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].state == WIRE_ORPHAN)
			review_member(k, i);
}

/* The next worker would find its descriptor closed and end it anew, so that no commit of its own is
 * due: each compares all connections, and thousands that end at once would keep everybody waiting. */
static bool is_trifle(const struct conn *c)
{
	return (c->state == CONN_NEW || c->state == CONN_READY) && c->group == NONE &&
	       c->member == NONE && c->n == 0;
}

void conn_end(struct keeper *k, int conn)
{
	k->trifle = is_trifle(&k->conn[conn]);
	FAULT(connection_before);
	close(k->conn[conn].fd);
	FAULT(connection_after);
	ended(k, conn);
	FAULT(connection_reviewed);
}

static bool is_over(const struct keeper *k, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return k->sys->poll(&p, 1, 0) == 1;
}

void conn_process_ended(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];

	if (!is_over(k, c->pidfd))
		return;
	FAULT(death_before);
	unwatch_and_close(k, c->pidfd);
	FAULT(death_after);
	c->pidfd = NONE;
	c->dead = true;
	conn_changed(k, conn);
	FAULT(death_reviewed);
}

/* May this request be handled, or have workers died of it before? */
static bool begin(struct keeper *k, int conn, uint32_t seq)
{
	struct shared *s = k->shared;

	if (s->attempt.conn != conn || s->attempt.seq != seq)
		s->attempt.times = 0;
	s->attempt.conn = conn;
	s->attempt.seq = seq;
	return ++s->attempt.times <= ATTEMPTS_MAX;
}

bool conn_is_repeated(const struct keeper *k)
{
	return k->shared->attempt.times > 1;
}

static int answer(struct keeper *k)
{
	struct outbox *o = &k->outbox;
	int r = 0;

	if (!o->used)
		return 0;
	FAULT(reply_before);
	r = wire_send(k->sys, k->conn[o->conn].fd, &o->packet, MSG_DONTWAIT);
	FAULT(reply_after);
	return r;
}

static int handle(struct keeper *k, int conn, struct wire_packet *p)
{
	int r;

	FAULT(receive_peeked);
	if (k->outbox.used && k->outbox.conn == conn && k->outbox.seq == p->head.seq)
		return answer(k); /* handled by the worker before us */
	k->outbox.used = false;
	if (!begin(k, conn, p->head.seq)) {
		log_error("keeper: a request of pid %u (type %u) has ended %d workers: not tried again",
		          k->conn[conn].pid, p->head.type, ATTEMPTS_MAX);
		return -EPROTO;
	}
	r = request_handle(k, conn, p);
	FAULT(request_handled);
	if (r < 0)
		return r;
	state_commit(k);
	return answer(k);
}

void conn_receive(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	struct wire_packet p;
	char byte;
	int r = wire_receive(k->sys, c->fd, MSG_DONTWAIT | MSG_PEEK, &p);

	if (r == -EAGAIN)
		return;
	if (r == 1) {
		r = handle(k, conn, &p);
		wire_close_fds(k->sys, &p);
		k->shared->attempt.conn = NONE;
		k->outbox.used = false;
		if (r == 0) {
			/* Without room for them its descriptors are dropped by the kernel. */
			(void)recv(c->fd, &byte, sizeof(byte), MSG_DONTWAIT);
			FAULT(request_consumed);
			return;
		}
	}
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		log_debug("connection of pid %u closed: %s", c->pid, strerror(-r));
	conn_end(k, conn);
}

int conn_admit(struct keeper *k, int fd)
{
	uint32_t uid, pid;
	bool foreign;

	if (peer_identify(k->sys, fd, &uid, &pid) < 0)
		return -EPERM;
	foreign = !peer_is(uid, pid, k->uid);
	if (k->conns >= CONNS_MAX || (foreign && k->foreign >= FOREIGN_MAX))
		return -ENOSPC;
	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &k->conn[i];

		if (c->used)
			continue;
		memset(c, 0, sizeof(*c));
		if (conn_watch_fd(k, fd, EVENT_CONN, i) < 0)
			return -ENOSPC;
		c->used = true;
		c->foreign = foreign;
		c->fd = fd;
		c->cookie = snapshot_identity(fd);
		c->pidfd = c->group = c->member = NONE;
		c->uid = uid;
		c->pid = pid;
		c->hello_until = k->now + HELLO_MS;
		k->conns++;
		k->foreign += foreign;
		if (k->conn_top <= i)
			k->conn_top = i + 1;
		FAULT(accept_admitted);
		return 0;
	}
	return -ENOSPC;
}

/* Before pidfds had inodes of their own (6.9) the process itself must be compared. */
static bool same_process(const struct conn *c)
{
	int pid;

	if (c->pidfd_id == 0 || snapshot_identity(c->pidfd) != c->pidfd_id)
		return false;
	pid = process_pidfd_pid(c->pidfd);
	return pid == -ESRCH || pid == 0 || (uint32_t)pid == c->pid;
}

void conn_prove(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];

	if (c->fd != NONE && (c->cookie == 0 || snapshot_identity(c->fd) != c->cookie))
		c->fd = NONE;
	if (c->pidfd != NONE && !same_process(c)) {
		c->pidfd = NONE;
		c->dead = true;
	}
	if (c->page.at)
		(void)page_map(&c->page);
}

void conn_restore(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];

	if (c->pidfd != NONE)
		(void)conn_watch_fd(k, c->pidfd, EVENT_PROCESS, conn);
	if (c->fd == NONE) {
		ended(k, conn);
		return;
	}
	(void)conn_watch_fd(k, c->fd, EVENT_CONN, conn);
	if (c->dead)
		conn_changed(k, conn);
}

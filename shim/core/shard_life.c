/* What ends a socket of ours, to its last close(2). shard_listen.c: how it begins; shard_claim.c: what
 * forked processes do. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "pool.h"
#include "shard.h"
#include "shard_parts.h"

/* No descriptor and no thread has it any more. */
static void destroy(const struct sys *sys, struct shard *s)
{
	link_close(sys, s);
	link_unmap_counter(s);
	fdtab_lock();
	pool_free(s, sizeof(*s));
	fdtab_unlock();
}

static bool is_same_socket(const struct sys *sys, int fd, const struct shard *s)
{
	uint64_t cookie;

	if (atomic_load(&init_sandboxed))
		return true;
	return os_get()->cookie(sys, fd, &cookie) == 0 &&
	       (cookie == s->cookie || cookie == s->moving);
}

struct shard *shard_get(const struct sys *sys, int fd)
{
	struct shard *s;

	fdtab_lock();
	s = fdtab_find(fd);
	if (s)
		s->users++;
	fdtab_unlock();
	if (s && !is_same_socket(sys, fd, s)) {
		shard_put(sys, s);
		shard_forget(sys, fd); /* closed without our seeing it */
		return NULL;
	}
	return s;
}

void shard_put(const struct sys *sys, struct shard *s)
{
	bool last;

	fdtab_lock();
	last = --s->users == 0 && s->fds == 0;
	fdtab_unlock();
	if (last)
		destroy(sys, s);
}

/* The keeper learns of an end of connection and of a new one in this order: when the new one has its
 * answer, the old one has been dealt with, and a port that is free now can be bound by anybody. */
static void wait_for_keeper(const struct sys *sys, const struct shard *s)
{
	struct shard barrier;

	if (atomic_load(&init_sandboxed))
		return;
	memset(&barrier, 0, sizeof(barrier));
	barrier.keeper.fd = -1;
	barrier.keeper_uid = s->keeper_uid;
	if (link_open(sys, &barrier, false) == 0)
		link_close(sys, &barrier);
}

/* No other thread has it in use: it would be a number of somebody else's there. */
static void end_link(const struct sys *sys, struct shard *s)
{
	if (link_take_turn(s) < 0)
		return; /* destroy() will */
	link_close(sys, s);
	link_end_turn(s);
}

/* The last descriptor of this process is closed. A child may have inherited socket and connection:
 * then only the end of the connection tells, which the child's copy keeps open. */
static void leave_closed(const struct sys *sys, struct shard *s)
{
	bool mine = s->owner == getpid();

	if (s->keeper.fd < 0)
		return;
	if (mine && s->forks == atomic_load(&init_forks)) {
		(void)link_leave(sys, s, WIRE_CLOSED);
		end_link(sys, s);
	} else {
		end_link(sys, s);
		if (mine)
			wait_for_keeper(sys, s);
	}
}

void shard_forget(const struct sys *sys, int fd)
{
	struct shard *s;
	bool last = false;

	fdtab_lock();
	s = fdtab_find(fd);
	fdtab_remove(fd);
	if (s) {
		shard_epoll_forget(fd);
		s->users++;
		last = --s->fds == 0;
	}
	fdtab_unlock();
	if (!s)
		return;
	if (last)
		leave_closed(sys, s);
	shard_put(sys, s);
}

void shard_reused(const struct sys *sys, int fd)
{
	if (!init_is_self())
		return;
	if (fdtab_peek(fd) == FDTAB_INTERNAL) {
		fdtab_lock();
		link_renumber(fd, -1);
		fdtab_remove(fd);
		fdtab_unlock();
	} else {
		shard_forget(sys, fd);
	}
}

int shard_close(const struct sys *sys, int fd)
{
	struct shard *s;
	int r;

	if (!init_is_self())
		return sys->close(fd) == -1 ? -errno : 0;
	if (fdtab_peek(fd) == FDTAB_INTERNAL && link_is_internal(sys, fd))
		return -EBADF; /* the server never opened it */
	s = shard_get(sys, fd);
	if (s) {
		shard_put(sys, s);
	} else {
		fdtab_lock();
		fdtab_tag(fd, FDTAB_NOT_OURS);
		fdtab_unlock();
	}
	r = sys->close(fd) == -1 ? -errno : 0;
	if (s)
		shard_forget(sys, fd);
	return r;
}

/* Mode shared: what is called next is to end this shard alone. Is that all there is to do? A fresh TCP
 * socket does not listen: yes. UDP goes on with its own, or with none: everybody's is not touched. */
static bool leave_all(const struct sys *sys, struct shard *s, int *ret_done)
{
	int r = shard_unshare(sys, s);

	*ret_done = r;
	return s->addr.proto == IPPROTO_TCP ? r == 0 : r < 0;
}

int shard_shutdown(const struct sys *sys, int fd, int how)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;
	int r = -ENOTCONN, done;

	if (s && s->state == SHARD_JOINED && s->shared && how != SHUT_WR && leave_all(sys, s, &done)) {
		shard_put(sys, s);
		return done;
	}
	if (s && s->state == SHARD_JOINED && s->addr.proto == IPPROTO_TCP && how != SHUT_WR) {
		r = link_leave(sys, s, how == SHUT_RD ? WIRE_SHUT_RD : WIRE_SHUT_RDWR);
		if (!link_failed(r))
			s->state = SHARD_BOUND;
	}
	if (link_failed(r))
		r = sys->shutdown(fd, how) == -1 ? -errno : 0;
	if (s)
		shard_put(sys, s);
	return r;
}

/* A socket that connects is no listener: as if we had never touched it. */
int shard_connect(const struct sys *sys, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;
	bool disconnects = addr && len >= sizeof(addr->sa_family) && addr->sa_family == AF_UNSPEC;
	int r;

	if (!s)
		return sys->connect(fd, addr, len) == -1 ? -errno : 0;
	if (s->state == SHARD_JOINED && s->shared && (disconnects || s->addr.proto == IPPROTO_UDP) &&
	    leave_all(sys, s, &r)) {
		shard_put(sys, s);
		return r;
	}
	r = shard_bind_late(sys, fd, s);
	if (r < 0) {
		shard_put(sys, s);
		return r;
	}
	if (s->state == SHARD_JOINED && s->addr.proto == IPPROTO_TCP) {
		r = disconnects ? link_leave(sys, s, WIRE_DISCONNECT) : -ENOTCONN;
		if (!link_failed(r)) {
			s->state = SHARD_BOUND;
			shard_put(sys, s);
			return r;
		}
	} else {
		if (s->state == SHARD_JOINED)
			(void)link_leave(sys, s, WIRE_CONNECTING);
		os_get()->unshare(sys, fd, &s->addr, s->had_port, s->had_addr);
		shard_forget(sys, fd);
	}
	shard_put(sys, s);
	return sys->connect(fd, addr, len) == -1 ? -errno : 0;
}

void shard_mark_inherited(void)
{
	for (int fd = fdtab_next(0, false); fd >= 0; fd = fdtab_next(fd + 1, false)) {
		struct shard *s = fdtab_find(fd);

		atomic_store(&s->busy, false); /* of a thread that was not forked */
		s->retry_at = 0;
		if (s->state == SHARD_JOINED && s->addr.proto == IPPROTO_TCP)
			fdtab_set_mark(s, (uintptr_t)s->counter | FDTAB_CLAIM);
	}
}

/* One word for each socket that this process has at the keeper. */
static void tell_of_all(uint16_t type)
{
	const struct sys *sys = sys_get();

	for (int fd = 0;; fd++) {
		struct wire_packet p;
		struct shard *s;

		fdtab_lock();
		fd = fdtab_next(fd, false);
		fdtab_unlock();
		if (fd < 0)
			return;
		s = shard_get(sys, fd);
		if (!s)
			continue;
		if (s->owner == getpid() && s->keeper.fd >= 0 &&
		    (s->state == SHARD_JOINED || type == WIRE_DEAF)) {
			memset(&p, 0, sizeof(p));
			p.head.type = type;
			p.body.leave.action =
			        s->forks == atomic_load(&init_forks) ? WIRE_CLOSED : WIRE_INHERITED;
			(void)link_ask(sys, s, &p);
			wire_close_fds(sys, &p);
		}
		shard_put(sys, s);
	}
}

void shard_clean_exit(void)
{
	if (init_is_self() && !atomic_load(&init_sandboxed))
		tell_of_all(WIRE_CLEAN_EXIT);
}

void shard_sandboxed(void)
{
	if (init_is_self() && !atomic_load(&init_sandboxed))
		tell_of_all(WIRE_DEAF);
}

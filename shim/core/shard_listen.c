/* listen(2): a TCP socket of ours joins its group. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard_parts.h"

/* Of a server that makes several sharing sockets itself only one can have the slot that it is to have. */
static bool is_one_of_several(const struct shard *s)
{
	bool found = false;

	fdtab_lock();
	for (int fd = fdtab_next(0, false); fd >= 0 && !found; fd = fdtab_next(fd + 1, false)) {
		const struct shard *other = fdtab_find(fd);

		found = other != s && other->owner == getpid() && addr_equal(&other->addr, &s->addr);
	}
	fdtab_unlock();
	return found;
}

static int join(const struct sys *sys, int fd, int backlog, struct shard *s)
{
	struct wire_packet p;
	int r;

	(void)shard_bind_late(sys, fd, s); /* EADDRINUSE: the keeper knows whether by the socket of all */
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_JOIN;
	p.body.join.addr = s->addr;
	p.body.join.cookie = s->cookie;
	p.body.join.backlog = backlog;
	p.fds[0] = fd;
	p.n_fds = 1;
	r = link_ask(sys, s, &p);
	if (r == 0 && p.body.joined.made)
		r = shard_share(sys, s, &p);
	wire_close_fds(sys, &p);
	if (r < 0)
		return r;
	memcpy(s->token, p.body.joined.token, sizeof(s->token));
	s->state = SHARD_JOINED;
	s->part = SHARD_JOINER;
	s->shared |= s->mode == WIRE_MODE_SHARED;
	s->unbound = false;
	s->owner = getpid();
	fdtab_lock();
	fdtab_set_mark(s, (uintptr_t)s->counter | FDTAB_CLAIM);
	fdtab_unlock();
	if (p.body.joined.wanted_taken && !is_one_of_several(s))
		log_warn("SOCKSHARD_SLOT: slot %u is held by a live process: slot %u taken instead",
		         init.slot, p.body.joined.slot);
	log_info("fd %d is slot %u of group '%s'", fd, p.body.joined.slot, init.group);
	return 0;
}

/* Bound by a process that has forked since. Its connection is its own and every child's that calls listen(2),
 * too: they would read each other's answers, and the keeper would take them for one. 0: s has a connection
 * and a reservation of this process's own. */
static int reserve_own(const struct sys *sys, struct shard *s)
{
	struct shard mine = *s, before = { .counter = s->counter };
	int r;

	if (geteuid() != s->keeper_uid) /* who has changed its user may not join by itself */
		return -EPERM;
	mine.keeper.fd = -1;
	atomic_store(&mine.busy, false);
	r = link_open(sys, &mine, true);
	if (r == 0)
		r = link_reserve(sys, &mine, false);
	if (r < 0) {
		link_close(sys, &mine);
		return r;
	}
	link_close(sys, s); /* our copy of the parent's */
	fdtab_lock();
	s->keeper = mine.keeper;
	s->keeper_cookie = mine.keeper_cookie;
	s->counter = mine.counter;
	s->owner = getpid();
	s->forks = atomic_load(&init_forks);
	fdtab_set_mark(s, (uintptr_t)s->counter);
	fdtab_unlock();
	atomic_store(&s->busy, false);
	link_unmap_counter(&before);
	return 0;
}

static bool listens(const struct sys *sys, int fd)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return sys->getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 && value;
}

/* 0; 1: another process has it join already, and listen(2) has yet to be called; -errno. */
static int enter(const struct sys *sys, int fd, int backlog, struct shard *s)
{
	int r;

	if (s->owner != getpid() && s->keeper.fd >= 0 && !atomic_load(&init_sandboxed))
		(void)reserve_own(sys, s);
	r = join(sys, fd, backlog, s);
	if (r == -EADDRINUSE && s->unbound) /* who was in the way went before the keeper looked */
		r = join(sys, fd, backlog, s);
	if (r == -EBADF && listens(sys, fd) && shard_hold(sys, s, fd) == 0)
		return 1;
	return r;
}

int shard_listen(const struct sys *sys, int fd, int backlog)
{
	struct shard *s;
	char text[ADDR_TEXT_MAX];
	int r = -ENOTCONN;

	shard_touch(sys, fd, TOUCH_HOLD, -1);
	s = init_is_self() ? shard_get(sys, fd) : NULL;
	if (s && s->state == SHARD_BOUND && s->addr.proto == IPPROTO_TCP) {
		r = enter(sys, fd, backlog, s);
		if (link_failed(r)) {
			log_warn("%s: the keeper does not answer (%s): %s",
			         addr_format(&s->addr, text, sizeof(text)), strerror(-r),
			         init.strict ? "listen fails (SOCKSHARD_STRICT=1)"
			         : s->alone  ? "not shared, the system refuses the option"
			                     : "shared by the option alone");
			if (init.strict)
				goto out;
			s->state = SHARD_PLAIN;
			if (shard_bind_late(sys, fd, s) < 0) {
				r = -EADDRINUSE;
				goto out;
			}
		}
	}
	if (r == 1 || link_failed(r))
		r = sys->listen(fd, backlog) == -1 ? -errno : 0;
	if (r == 0 && !s)
		shard_touch(sys, fd, TOUCH_HOLD, -1); /* received or inherited, and a listener from now on */
out:
	if (s)
		shard_put(sys, s);
	return r;
}

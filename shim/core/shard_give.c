/* Connections that waited where nobody accepts, and the nudges that bring them. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard.h"

static int end_of(const struct sys *sys, int fd, bool peer, struct sockaddr_storage *ss, socklen_t *len,
                  struct addr *ret)
{
	*len = sizeof(*ss);
	if ((peer ? getpeername(fd, (struct sockaddr *)ss, len)
	          : sys->getsockname(fd, (struct sockaddr *)ss, len)) == -1)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)ss, *len, ret);
}

/* A client's connection, whatever else was asked for. */
static bool is_connection(const struct sys *sys, int fd, struct sockaddr_storage *ret_peer,
                          socklen_t *ret_len)
{
	int type = 0;
	socklen_t len = sizeof(type);
	struct addr a;

	return sys->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
	       end_of(sys, fd, true, ret_peer, ret_len, &a) == 0;
}

/* It was a nudge: gone without a trace, no TIME_WAIT on the server's port either. */
static void swallow(const struct sys *sys, int fd, struct shard *s)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	(void)sys->setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	sys->close(fd);
	atomic_fetch_sub_explicit(&s->counter->word, WIRE_ONE, memory_order_relaxed);
}

static int set_flags(const struct sys *sys, int fd, int flags)
{
	if ((flags & SOCK_NONBLOCK) && sys->fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == -1)
		return -errno;
	if (!(flags & SOCK_CLOEXEC) && sys->fcntl(fd, F_SETFD, 0) == -1)
		return -errno;
	return 0;
}

/* The gift is ours only after the keeper has heard so: two servers must never hold one client. A
 * keeper that is late with its answer reads our word before the end of our connection, and gives it
 * to nobody else: then it is ours too. Meanwhile the nudge that brought it is closed. */
static int take(const struct sys *sys, struct shard *s, uint32_t gift, int nudge)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_TAKEN;
	p.body.given.gift = gift;
	r = link_tell(sys, s, &p);
	swallow(sys, nudge, s);
	if (r == 0) {
		r = link_hear(sys, s, &p);
		wire_close_fds(sys, &p);
	}
	if (link_failed(r))
		link_give_up(sys, s);
	return r == -ETIMEDOUT ? 0 : r;
}

static int ask(const struct sys *sys, struct shard *s, int accepted, struct wire_packet *ret)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->head.type = WIRE_ASK;
	r = end_of(sys, accepted, true, &ss, &len, &ret->body.ask.peer);
	if (r == 0)
		r = end_of(sys, accepted, false, &ss, &len, &ret->body.ask.local);
	if (r < 0)
		return r;
	r = link_tell(sys, s, ret);
	if (r == 0)
		r = link_hear(sys, s, ret);
	if (link_failed(r)) /* it would cost every accept a deadline as long as it stands still */
		link_give_up(sys, s);
	return r;
}

/* Would accept(2) wait now? A server that polled first does not expect that, and may have more to
 * do: it gets the empty nudge itself then, as a client that has hung up. */
static bool would_wait(const struct sys *sys, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int flags;

	if (atomic_load(&init_sandboxed))
		return false;
	flags = sys->fcntl(fd, F_GETFL);
	return flags != -1 && !(flags & O_NONBLOCK) && sys->poll(&p, 1, 0) == 0;
}

/* Where all shards wait for one queue, one that is never the quickest has nothing else to notice by. Not
 * while another thread is at it: there is no connection yet that might be a nudge. */
void shard_notice(const struct sys *sys, int fd)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;

	if (!s)
		return;
	if (!atomic_load(&s->busy))
		(void)link_restore(sys, s, fd);
	shard_put(sys, s);
}

/* In a turn. As shard_given(). */
static int given(const struct sys *sys, struct shard *s, int fd, int accepted,
                 struct sockaddr_storage *ret_peer, socklen_t *ret_len, int flags)
{
	struct wire_packet p;
	int gift;

	if (ask(sys, s, accepted, &p) < 0 || !p.body.given.nudge) {
		wire_close_fds(sys, &p);
		return accepted;
	}
	if (p.body.given.gift == 0 || p.n_fds != 1) {
		wire_close_fds(sys, &p);
		if (would_wait(sys, fd))
			return accepted;
		swallow(sys, accepted, s);
		return -ECANCELED;
	}
	gift = p.fds[0];
	if (!is_connection(sys, gift, ret_peer, ret_len) || set_flags(sys, gift, flags) < 0) {
		swallow(sys, accepted, s);
		sys->close(gift);
		return -ECANCELED;
	}
	if (take(sys, s, p.body.given.gift, accepted) < 0) {
		sys->close(gift);
		return -ECANCELED;
	}
	return gift;
}

int shard_given(const struct sys *sys, int fd, int accepted, struct sockaddr *addr, socklen_t *len,
                socklen_t room, int flags)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;
	struct sockaddr_storage peer;
	socklen_t peer_len = 0;
	int r = accepted;

	if (!s)
		return accepted;
	if (s->owner != getpid()) /* what a fork has left is its parent's connection */
		shard_touch(sys, fd, TOUCH_ACCEPT, -1);
	if (s->owner == getpid() && link_restore(sys, s, fd) == 0 && link_take_turn(s) == 0) {
		r = given(sys, s, fd, accepted, &peer, &peer_len, flags);
		link_end_turn(s);
	}
	if (r >= 0 && r != accepted) {
		if (addr && len) {
			memcpy(addr, &peer, room < peer_len ? room : peer_len);
			*len = peer_len;
		}
		(void)fdtab_count((uintptr_t)s->counter);
	}
	shard_put(sys, s);
	return r;
}

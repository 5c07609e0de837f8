/* Connections that waited where nobody accepts, and the nudges that bring them. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>

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
	if (r == -EBUSY && s->keeper.fd >= 0) /* the keeper must hear that it is not taken */
		(void)sys->shutdown(s->keeper.fd, SHUT_RDWR);
	swallow(sys, nudge, s);
	if (r == 0) {
		r = link_hear(sys, s, &p);
		wire_close_fds(sys, &p);
	}
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
	return r < 0 ? r : link_ask(sys, s, ret);
}

/* A keeper that stands still would cost every accept a deadline. When it goes on it sees the end of
 * our connection and raises the flag again. */
static void ask_no_more(struct shard *s)
{
	if (s->keeper.fd < 0)
		atomic_fetch_and_explicit(&s->counter->word, ~(uint64_t)WIRE_NUDGED,
		                          memory_order_relaxed);
}

/* The kernel says that the keeper has ended. Its worker alone may have: then the connection lives. */
static bool must_restore(const struct sys *sys, const struct shard *s)
{
	struct pollfd p = { .fd = s->keeper.fd, .events = POLLIN };

	if (s->keeper.fd < 0)
		return true;
	if (!(atomic_load(&s->counter->word) & WIRE_KEEPER_DIED) || atomic_load(&init_sandboxed))
		return false;
	return sys->poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
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

/* Where all shards wait for one queue, one that is never the quickest has nothing else to notice by. */
void shard_notice(const struct sys *sys, int fd)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;

	if (!s)
		return;
	if (must_restore(sys, s))
		(void)link_restore(sys, s, fd);
	shard_put(sys, s);
}

int shard_given(const struct sys *sys, int fd, int accepted, struct sockaddr *addr, socklen_t *len,
                socklen_t room, int flags)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;
	struct sockaddr_storage peer;
	struct wire_packet p;
	socklen_t peer_len;
	int r = accepted, given;

	if (!s)
		return accepted;
	if (must_restore(sys, s) && link_restore(sys, s, fd) < 0) {
		ask_no_more(s);
		goto out;
	}
	if (ask(sys, s, accepted, &p) < 0 || !p.body.given.nudge) {
		wire_close_fds(sys, &p);
		ask_no_more(s);
		goto out;
	}
	if (p.body.given.gift == 0 || p.n_fds != 1) {
		wire_close_fds(sys, &p);
		if (would_wait(sys, fd))
			goto out;
		swallow(sys, accepted, s);
		r = -ECANCELED;
		goto out;
	}
	r = -ECANCELED;
	given = p.fds[0];
	if (!is_connection(sys, given, &peer, &peer_len) || set_flags(sys, given, flags) < 0) {
		swallow(sys, accepted, s);
		sys->close(given);
		goto out;
	}
	if (take(sys, s, p.body.given.gift, accepted) < 0) {
		sys->close(given);
		goto out;
	}
	if (addr && len) {
		memcpy(addr, &peer, room < peer_len ? room : peer_len);
		*len = peer_len;
	}
	(void)fdtab_count((uintptr_t)s->counter);
	r = given;
out:
	shard_put(sys, s);
	return r;
}

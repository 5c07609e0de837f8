/* Mode shared: one socket, held by the keeper, under the numbers of every shard of the group. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard_parts.h"

static socklen_t name_of(const struct shard *s, struct sockaddr_storage *ret)
{
	socklen_t len = addr_to_sockaddr(&s->addr, ret);
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	if (s->addr.family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
		in6->sin6_scope_id = s->addr.ifindex;
	return len;
}

/* The address alone: what else a bind would have changed is as it was. */
static int real_bind(const struct sys *sys, int fd, const struct shard *s)
{
	struct sockaddr_storage ss;
	socklen_t len = name_of(s, &ss);

	return sys->bind(fd, (struct sockaddr *)&ss, len) == -1 ? -errno : 0;
}

int shard_option(const struct sys *sys, int fd, struct shard *s, char *why)
{
	int r = os_get()->share(sys, fd, &s->addr, why), on = 1;

	if (r == 0 || s->mode != WIRE_MODE_SHARED || s->state == SHARD_PLAIN)
		return r;
	/* For what is left of connections, and for copies that bind before one of them listens. */
	if (s->addr.proto == IPPROTO_TCP &&
	    sys->setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
		return -errno;
	s->alone = true;
	return 0;
}

/* Somebody has begun to listen since we were answered: whoever that is, the keeper knows. */
static int reserve_again(const struct sys *sys, struct shard *s)
{
	int r;

	link_close(sys, s);
	link_unmap_counter(s);
	s->counter = &fdtab_uncounted;
	r = link_open(sys, s, false);
	return r < 0 ? r : link_reserve(sys, s, false);
}

int shard_bind_named(const struct sys *sys, int fd, struct shard *s)
{
	int v6only = s->addr.v6only;

	if (s->mode != WIRE_MODE_SHARED || s->state != SHARD_BOUND ||
	    (!s->listened && (reserve_again(sys, s) < 0 || !s->listened)))
		return -EADDRINUSE;
	if (s->addr.family == AF_INET6) /* as the real one leaves it (__inet6_bind) */
		(void)sys->setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	s->unbound = true;
	return 0;
}

int shard_bind_late(const struct sys *sys, int fd, struct shard *s)
{
	int r = s->unbound ? real_bind(sys, fd, s) : 0;

	if (r == 0)
		s->unbound = false;
	return r;
}

int shard_getsockname(const struct sys *sys, int fd, struct sockaddr *addr, socklen_t *len)
{
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;
	socklen_t room = len ? *len : 0, all;
	struct sockaddr_storage ss;
	int r = sys->getsockname(fd, addr, len) == -1 ? -errno : 0;

	if (r == 0 && len && s && s->unbound) {
		all = name_of(s, &ss);
		memcpy(addr, &ss, room < all ? room : all);
		*len = all;
	}
	if (s)
		shard_put(sys, s);
	return r;
}

int shard_share(const struct sys *sys, struct shard *s, struct wire_packet *joined)
{
	struct shard_watches watches;
	int r = -EPROTO;

	memset(&watches, 0, sizeof(watches));
	shard_watches(sys, s, &watches);
	if (joined->n_fds == 1)
		r = shard_move(sys, s, joined->fds[0], &watches);
	if (r < 0) {
		log_warn("no part in the socket of all: %s", strerror(-r));
		(void)link_leave(sys, s, WIRE_CLOSED);
		return -EPROTO;
	}
	joined->n_fds = 0;
	s->shared = true;
	return 0;
}

/* As the server had made it, so that it may listen again. Where the system refuses the option the
 * address stays the socket of all's: then it is unbound, which UDP cannot be. */
static int fresh(const struct sys *sys, struct shard *s, bool *ret_unbound)
{
	bool tcp = s->addr.proto == IPPROTO_TCP;
	int fd = sys->socket(s->addr.family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	int on = 1, v6only = s->addr.v6only, r;
	char why[OS_WHY_MAX];

	*ret_unbound = false;
	if (fd == -1)
		return -errno;
	if (s->addr.family == AF_INET6 && addr_is_wildcard(&s->addr))
		(void)sys->setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	if (s->had_addr)
		(void)sys->setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	r = shard_option(sys, fd, s, why);
	if (r == 0)
		r = real_bind(sys, fd, s);
	*ret_unbound = tcp && r == -EADDRINUSE;
	if (r < 0 && !*ret_unbound) {
		sys->close(fd);
		return r;
	}
	return fd;
}

int shard_unshare(const struct sys *sys, struct shard *s)
{
	struct shard_watches watches;
	bool unbound;
	int fd = fresh(sys, s, &unbound), r;

	if (fd < 0)
		return fd;
	memset(&watches, 0, sizeof(watches));
	shard_watches(sys, s, &watches);
	r = shard_replace(sys, s, fd, &watches);
	if (r < 0) {
		sys->close(fd);
		return r;
	}
	s->shared = false;
	s->unbound = unbound;
	s->state = SHARD_BOUND;
	(void)link_leave(sys, s, WIRE_CLOSED);
	link_unmap_counter(s);
	s->counter = &fdtab_uncounted;
	r = link_reserve(sys, s, false);
	fdtab_lock();
	fdtab_set_mark(s, (uintptr_t)s->counter);
	fd = fdtab_number_of(s, 0);
	fdtab_unlock();
	(void)shard_bind_late(sys, fd, s); /* if we were the last one the address is free now */
	if (r < 0)
		log_debug("not reserved again: %s", strerror(-r));
	return 0;
}

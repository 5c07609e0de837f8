/* Mode shared: one socket, held by the keeper, under the numbers of every shard of the group. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "link.h"
#include "shard_parts.h"

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

/* As the server had made it, so that it may listen again. */
static int fresh(const struct sys *sys, const struct shard *s)
{
	bool tcp = s->addr.proto == IPPROTO_TCP;
	int fd = sys->socket(s->addr.family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	int on = 1, v6only = s->addr.v6only, r;
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&s->addr, &ss);
	char why[OS_WHY_MAX];

	if (fd == -1)
		return -errno;
	if (s->addr.family == AF_INET6 && addr_is_wildcard(&s->addr))
		(void)sys->setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	if (s->had_addr)
		(void)sys->setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	r = os_get()->share(sys, fd, &s->addr, why);
	if (r == 0 && sys->bind(fd, (struct sockaddr *)&ss, len) == -1)
		r = -errno;
	if (r < 0) {
		sys->close(fd);
		return r;
	}
	return fd;
}

int shard_unshare(const struct sys *sys, struct shard *s)
{
	struct shard_watches watches;
	int fd = fresh(sys, s), r;

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
	s->state = SHARD_BOUND;
	(void)link_leave(sys, s, WIRE_CLOSED);
	link_unmap_counter(s);
	s->counter = &fdtab_uncounted;
	r = link_reserve(sys, s, false);
	fdtab_lock();
	fdtab_set_mark(s, (uintptr_t)s->counter);
	fdtab_unlock();
	if (r < 0)
		log_debug("not reserved again: %s", strerror(-r));
	return 0;
}

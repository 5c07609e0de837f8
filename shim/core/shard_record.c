/* The record of a socket that we may share: its address as we compare it, made and thrown away; and what
 * the log says of this process's part in it. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "pool.h"
#include "shard_parts.h"

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62 /* Linux 5.1 */
#endif

static int get_int(const struct sys *sys, int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return sys->getsockopt(fd, level, name, &value, &len) == -1 ? -errno : value;
}

bool shard_examine(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                   struct addr *ret)
{
	int type, proto, v;

	if (!sa || addr_from_sockaddr(sa, len, ret) < 0 || ret->port == 0 || addr_is_multicast(ret))
		return false;
	if (get_int(sys, fd, SOL_SOCKET, SO_DOMAIN) != ret->family)
		return false;
	type = get_int(sys, fd, SOL_SOCKET, SO_TYPE);
	proto = get_int(sys, fd, SOL_SOCKET, SO_PROTOCOL);
	if (!(type == SOCK_STREAM && proto == IPPROTO_TCP) &&
	    !(type == SOCK_DGRAM && proto == IPPROTO_UDP))
		return false; /* SCTP, MPTCP: never steered */
	ret->proto = (uint8_t)proto;
	if (ret->family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		/* bind(2) to one address makes the socket IPv6 only, a mapped one not (__inet6_bind). */
		if (addr_is_wildcard(ret))
			ret->v6only = get_int(sys, fd, IPPROTO_IPV6, IPV6_V6ONLY) == 1;
		else
			ret->v6only = !IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
		if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			ret->ifindex = in6->sin6_scope_id;
	}
	v = get_int(sys, fd, SOL_SOCKET, SO_BINDTOIFINDEX);
	if (v > 0)
		ret->ifindex = (uint32_t)v;
	return true;
}

struct shard *shard_make(const struct sys *sys, int fd, const struct addr *a)
{
	struct shard *s;

	fdtab_lock();
	s = pool_alloc(sizeof(*s));
	fdtab_unlock();
	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->addr = *a;
	s->keeper.fd = -1;
	s->counter = &fdtab_uncounted;
	s->owner = getpid();
	s->keeper_uid = (uint32_t)geteuid();
	s->forks = atomic_load(&init_forks);
	s->had_port = os_get()->shared(sys, fd) == 1;
	s->had_addr = get_int(sys, fd, SOL_SOCKET, SO_REUSEADDR) == 1;
	(void)os_get()->cookie(sys, fd, &s->cookie);
	return s;
}

void shard_discard(const struct sys *sys, struct shard *s)
{
	link_close(sys, s);
	link_unmap_counter(s);
	fdtab_lock();
	pool_free(s, sizeof(*s));
	fdtab_unlock();
}

void shard_say_part(const struct shard *s, int fd, const struct wire_joined *j)
{
	char text[ADDR_TEXT_MAX];

	addr_format(&s->addr, text, sizeof(text));
	if (j->made)
		log_info("fd %d: %s: a socket of this process's own, slot %u", fd, text, j->slot);
	else if (j->option[0])
		log_warn("%s: the workers share one socket: its option %.31s cannot be copied", text,
		         j->option);
	else if (j->why == -EBUSY)
		log_info("fd %d: %s: shared with the process that listens, which waits itself", fd, text);
	else if (j->why)
		log_warn("%s: the workers share one socket: %s", text, strerror(-j->why));
	else
		log_info("fd %d: %s: slot %u", fd, text, j->slot);
}

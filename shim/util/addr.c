/* Listening addresses: taken apart, compared, written. No sockets, no resolver. */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *ret)
{
	/* A server may pass any pointer: copy, do not trust its alignment. */
	struct addr a = {0};
	sa_family_t family;

	if (len < offsetof(struct sockaddr, sa_family) + sizeof(family))
		return -EINVAL;
	memcpy(&family, (const char *)sa + offsetof(struct sockaddr, sa_family), sizeof(family));
	if (family == AF_INET) {
		struct sockaddr_in in;
		if (len < sizeof(in))
			return -EINVAL;
		memcpy(&in, sa, sizeof(in));
		a.port = ntohs(in.sin_port);
		memcpy(a.ip, &in.sin_addr, sizeof(in.sin_addr));
	} else if (family == AF_INET6) {
		/* Linux takes RFC 2133's shorter form, without a scope id (SIN6_LEN_RFC2133). */
		struct sockaddr_in6 in6 = {0};
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		memcpy(&in6, sa, offsetof(struct sockaddr_in6, sin6_scope_id));
		a.port = ntohs(in6.sin6_port);
		memcpy(a.ip, &in6.sin6_addr, sizeof(in6.sin6_addr));
	} else {
		return -EAFNOSUPPORT;
	}
	a.family = (uint8_t)family;
	*ret = a;
	return 0;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (a->family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, sizeof(in->sin_addr));
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, sizeof(in6->sin6_addr));
	return sizeof(*in6);
}

struct addr addr_unmap(const struct addr *a)
{
	struct addr r = *a;

	if (a->family != AF_INET6 || memcmp(a->ip, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return r;
	memset(r.ip, 0, sizeof(r.ip));
	memcpy(r.ip, a->ip + sizeof(mapped_prefix), 4);
	r.family = AF_INET;
	r.v6only = 0;
	return r;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->proto == b->proto && a->family == b->family && a->v6only == b->v6only &&
	       a->port == b->port && a->ifindex == b->ifindex &&
	       memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

bool addr_same_end(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

bool addr_is_wildcard(const struct addr *a)
{
	static const uint8_t none[sizeof(a->ip)];
	struct addr u = addr_unmap(a);

	return memcmp(u.ip, none, sizeof(none)) == 0;
}

bool addr_is_multicast(const struct addr *a)
{
	struct addr u = addr_unmap(a);

	return u.family == AF_INET ? (u.ip[0] & 0xf0) == 0xe0 : u.ip[0] == 0xff;
}

bool addr_overlaps(const struct addr *a, const struct addr *b)
{
	struct addr x = addr_unmap(a);
	struct addr y = addr_unmap(b);

	if (x.proto != y.proto || x.port != y.port)
		return false;
	if (x.ifindex && y.ifindex && x.ifindex != y.ifindex)
		return false;
	if (x.family == y.family)
		return addr_is_wildcard(&x) || addr_is_wildcard(&y) ||
		       memcmp(x.ip, y.ip, sizeof(x.ip)) == 0;

	/* IPv4 traffic reaches an IPv6 socket only through a dual-stack wildcard. */
	const struct addr *six = x.family == AF_INET6 ? &x : &y;
	return addr_is_wildcard(six) && !six->v6only;
}

const char *addr_format(const struct addr *a, char *buf, size_t size)
{
	char ip[INET6_ADDRSTRLEN] = "?";

	inet_ntop(a->family, a->ip, ip, sizeof(ip));
	snprintf(buf, size, a->family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)a->port);
	return buf;
}

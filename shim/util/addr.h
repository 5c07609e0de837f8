/* A listening address as sockshard compares it: protocol, family, IP, port, IPV6_V6ONLY and bound
 * device. Pure functions; no sockets. */
#ifndef SOCKSHARD_UTIL_ADDR_H
#define SOCKSHARD_UTIL_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDR_TEXT_MAX 56 /* "[" + 45 + "]:65535" and the end */

struct addr {
	uint8_t proto;    /* IPPROTO_TCP or IPPROTO_UDP */
	uint8_t family;   /* AF_INET or AF_INET6 */
	uint8_t v6only;   /* 1: an AF_INET6 socket with IPV6_V6ONLY */
	uint8_t zero;
	uint16_t port;    /* host order */
	uint16_t zero2;
	uint32_t ifindex; /* bound device, 0 = none */
	uint8_t ip[16];   /* network order; IPv4 in the first four, the rest 0 */
};

/**
 * addr_from_sockaddr - take family, IP and port out of a socket address
 * @ret: proto, v6only and ifindex are set to 0; the caller knows them
 *
 * Returns 0; -EAFNOSUPPORT for other families; -EINVAL for a length too short.
 */
int addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *ret);

/** addr_to_sockaddr - the reverse; returns the length written (scope id 0) */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret);

/** addr_unmap - an IPv4-mapped IPv6 address (::ffff:1.2.3.4) as IPv4; others as they are */
struct addr addr_unmap(const struct addr *a);

bool addr_equal(const struct addr *a, const struct addr *b);

/** addr_same_end - one end of a connection: family, IP and port alone */
bool addr_same_end(const struct addr *a, const struct addr *b);

bool addr_is_wildcard(const struct addr *a);
bool addr_is_multicast(const struct addr *a);

/**
 * addr_overlaps - would one of the two shadow or steal connections of the other
 *
 * True for equal addresses too; a dual-stack [::] overlaps every IPv4 address of its port.
 */
bool addr_overlaps(const struct addr *a, const struct addr *b);

/** addr_format - "127.0.0.1:8080" or "[::1]:8080"; wildcards as 0.0.0.0 and [::]. Returns buf */
const char *addr_format(const struct addr *a, char *buf, size_t size);

#endif

/* Lists the sockets of a port by NETLINK_SOCK_DIAG (sock_diag(7)). Needs no privilege. */
#ifndef SOCKSHARD_OS_LINUX_DIAG_H
#define SOCKSHARD_OS_LINUX_DIAG_H

#include "os.h"

/* What one dump asked for; answers to anything else are passed over. */
struct linux_diag_query {
	uint8_t proto;	/* IPPROTO_TCP: listening; IPPROTO_UDP: bound, not connected */
	uint8_t family; /* AF_INET or AF_INET6 */
	uint16_t port;	/* host order, not 0 */
	uint32_t seq;	/* nlmsg_seq of the request */
	uint16_t states; /* 1 << TCP_LISTEN, ...; 0: listening, or for UDP bound */
};

/* Where the answers of a dump are collected. */
struct linux_diag_list {
	struct os_listener *entry; /* room for max, caller's */
	size_t max;
	size_t n;
	bool full;	  /* there were more than max */
	bool interrupted; /* the kernel's table changed under the dump: ask again */
};

/**
 * linux_diag_parse - take what one received buffer says
 * @buf: len bytes of netlink messages, any alignment, any contents
 *
 * A socket that an earlier buffer of the dump has shown already is not listed twice.
 * Returns 1 when the dump is complete; 0 when more is to come; -EBADMSG for bytes that are no
 * messages; -ENOTSUP when the kernel cannot list this protocol; else the kernel's -errno.
 */
int linux_diag_parse(const void *buf, size_t len, const struct linux_diag_query *query,
		     struct linux_diag_list *list);

/** linux_diag_open - a netlink socket (caller's, CLOEXEC); -ENOTSUP where there is none; -errno */
int linux_diag_open(void);

/**
 * linux_diag_listeners - the sockets of a port, IPv4 first
 *
 * As os.h's listeners(); further: -EAGAIN when the table changed under four dumps in a row,
 * -ETIMEDOUT when the kernel did not answer within 200 ms, -EINVAL for port 0.
 */
int linux_diag_listeners(int diag_fd, uint8_t proto, uint16_t port, struct os_listener *ret,
			 size_t max);

/** linux_diag_accepted - connections of a TCP port that somebody has accepted; errors as above */
int linux_diag_accepted(int diag_fd, uint8_t family, uint16_t port, struct os_listener *ret,
			size_t max);

/** linux_diag_half_open - the handshakes under way on a TCP port; errors as above */
int linux_diag_half_open(int diag_fd, uint16_t port, struct os_listener *ret, size_t max);

#endif

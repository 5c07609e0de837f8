/* What one operating system can do for us: capability bits and operations. One backend per system,
 * chosen when compiled (SOCKSHARD_OS), probed when run. With shim/sys the only place with #ifdef by
 * system. A missing capability is refused with a reason, never replaced by a weaker meaning. */
#ifndef SOCKSHARD_OS_OS_H
#define SOCKSHARD_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../sys/sys.h"
#include "../util/addr.h"

#define OS_WHY_MAX 200

/* capabilities */
#define OS_BALANCE_TCP  0x01u /* the kernel spreads new connections over several listeners */
#define OS_BALANCE_UDP  0x02u
#define OS_BALANCE_IPV6 0x04u
#define OS_STEER        0x08u /* a program may choose the listener (cBPF) */
#define OS_HANDOVER     0x10u /* the newest listener can be made to get everything */
#define OS_KEEPER       0x20u /* this version's keeper runs here */
#define OS_LISTENERS    0x40u /* the kernel lists the listeners of a port (sock_diag) */

/* One listening (TCP) or bound (UDP) socket as the kernel lists it. */
struct os_listener {
	uint64_t cookie; /* SO_COOKIE */
	struct addr addr;
	uint32_t uid;
	uint32_t inode;
	uint8_t retries; /* half-open: how often the SYN-ACK was sent again */
	bool closing;    /* a connection that its server has ended first */
	struct addr peer; /* of a connection: family, IP and port of the other end */
};

struct os {
	const char *name; /* "Linux" */
	unsigned caps;    /* what the system can do at best; os_probe() says what it does here */
	bool dual_stack;  /* a dual-stack [::] socket is balanced for IPv4 too */
	const char *no_balance; /* what happens instead, and the way out; NULL: it balances */

	/**
	 * share - set what makes a not yet bound socket join a balanced group
	 * @why: on refusal the reason and the way out, one line
	 * Returns 0; -ENOTSUP and why; -errno of setsockopt(2). After a failure the caller unshares.
	 */
	int (*share)(const struct sys *sys, int fd, const struct addr *addr, char why[OS_WHY_MAX]);

	/** unshare - take back what share() set (a bind that failed, a socket that connects) */
	void (*unshare)(const struct sys *sys, int fd, const struct addr *addr, bool had_port,
	                bool had_addr);

	/** shared - has the server itself asked for sharing: 1, 0 or -errno */
	int (*shared)(const struct sys *sys, int fd);

	/** listen_in_bind - must a TCP listener listen inside bind() (no RST window): FreeBSD, NetBSD */
	bool listen_in_bind;

	/** members_max - sockets of one group that can get traffic */
	unsigned members_max;

	/** attach - steer the group of a member by a program of n instructions; NULL program: detach.
	 * Returns 0; -ENOTSUP; -errno (EPERM, EINVAL, ENOMEM, E2BIG). */
	int (*attach)(const struct sys *sys, int fd, const void *program, unsigned n);

	/** cookie - a number that no other socket of this boot has; -ENOTSUP */
	int (*cookie)(const struct sys *sys, int fd, uint64_t *ret_cookie);

	/** queue - connections that wait to be accepted, and the backlog; -ENOTSUP */
	int (*queue)(const struct sys *sys, int fd, unsigned *ret_waiting, unsigned *ret_backlog);

	/**
	 * listeners - every listening (TCP) or bound unconnected (UDP) socket of a port, all addresses
	 * @diag_fd: from listeners_open(), caller's
	 * Returns how many were written to ret (at most max; more: -E2BIG); -ENOTSUP; -errno.
	 */
	int (*listeners_open)(void);
	int (*listeners)(int diag_fd, uint8_t proto, uint16_t port, struct os_listener *ret, size_t max);

	/** accepted - as listeners(), but the connections of a TCP port that somebody has accepted from
	 * sockets of this address family */
	int (*accepted)(int diag_fd, uint8_t family, uint16_t port, struct os_listener *ret, size_t max);

	/** half_open - as listeners(), but the handshakes under way on a TCP port (SYN_RECV) */
	int (*half_open)(int diag_fd, uint16_t port, struct os_listener *ret, size_t max);
};

extern const struct os os_linux, os_freebsd, os_dragonfly, os_netbsd, os_openbsd, os_darwin,
        os_unsupported;

/** os_get - the backend this was built for */
const struct os *os_get(void);

/**
 * os_refuse - why balance cannot work for an address here, from capability bits alone
 * Returns 0 when it can; -ENOTSUP and why.
 */
int os_refuse(const struct os *os, const struct addr *addr, char why[OS_WHY_MAX]);

/**
 * os_try - does the running system refuse to share an address: asked of a socket that is never bound
 *
 * That it does not refuse says nothing of what it does then: os_probe().
 * Returns 0, also when there is no such socket; -ENOTSUP and why.
 */
int os_try(const struct sys *sys, const struct os *os, const struct addr *addr,
	   char why[OS_WHY_MAX]);

/** What the running kernel does, found on a scratch group on loopback. */
struct os_probe {
	unsigned caps;      /* bits of the above that were seen to work */
	unsigned shares[3]; /* of 60 connections to three listeners */
	char why[OS_WHY_MAX]; /* why steering or balancing does not work, else empty */
};

/** os_probe - measure; uses a port of its own on loopback for some ms. 0 or -errno */
int os_probe(const struct sys *sys, const struct os *os, struct os_probe *ret_probe);

#endif

/* FreeBSD 12 and newer: SO_REUSEPORT_LB balances. Sets options only; all its rules are in
 * docs/PLATFORMS.md. Compiles on every system, so that its decisions are tested on every one. */
#include "backend.h"

#include <errno.h>
#include <netinet/in.h>

/* sys/socket.h of FreeBSD (12.0: r334719), for compilers of other systems */
#define FREEBSD_SO_REUSEPORT	0x0200
#define FREEBSD_SO_REUSEPORT_LB 0x00010000

/* Both bits: with SO_REUSEPORT_LB alone, up to 14.x, a socket of another user may join a wildcard
 * group (in_pcb.c in_pcbbind_setup). */
static int freebsd_share(const struct sys *sys, int fd, const struct addr *addr,
			 char why[OS_WHY_MAX])
{
	int r = os_refuse(&os_freebsd, addr, why);

	if (r < 0)
		return r;
	r = backend_set(sys, fd, FREEBSD_SO_REUSEPORT_LB, true);
	if (r == -ENOPROTOOPT)
		return backend_why(why, "no SO_REUSEPORT_LB here: FreeBSD 12 or newer can balance");
	if (r < 0)
		return r;
	return backend_set(sys, fd, FREEBSD_SO_REUSEPORT, true);
}

static void freebsd_unshare(const struct sys *sys, int fd, const struct addr *addr, bool had_port,
			    bool had_addr)
{
	(void)addr;
	(void)had_addr; /* SO_REUSEADDR is never touched here */
	if (had_port)
		return;
	backend_set(sys, fd, FREEBSD_SO_REUSEPORT_LB, false);
	backend_set(sys, fd, FREEBSD_SO_REUSEPORT, false);
}

static int freebsd_shared(const struct sys *sys, int fd)
{
	int r = backend_is_set(sys, fd, FREEBSD_SO_REUSEPORT_LB);

	return r == 0 ? backend_is_set(sys, fd, FREEBSD_SO_REUSEPORT) : r;
}

/* Handover: 14 and newer, or a specific address. members_max: the 257th socket binds and gets
 * nothing. listen_in_bind: up to 14.x a socket joins at bind(), and connections that are dealt to
 * it before listen() are reset. */
const struct os os_freebsd = {
	.name = "FreeBSD",
	.caps = OS_BALANCE_TCP | OS_BALANCE_UDP | OS_BALANCE_IPV6 | OS_HANDOVER,
	.dual_stack = false,
	.no_balance = NULL,
	.share = freebsd_share,
	.unshare = freebsd_unshare,
	.shared = freebsd_shared,
	.listen_in_bind = true,
	.members_max = 256,
	BACKEND_NO_VIEW,
};

/* DragonFly 3.6 and newer: its SO_REUSEPORT balances, IPv4 only. Sets one option; the rules are in
 * docs/PLATFORMS.md. Compiles on every system, so that its decisions are tested on every one. */
#include "backend.h"

#include <errno.h>

#define DRAGONFLY_SO_REUSEPORT 0x0200 /* sys/socket.h of DragonFly */

static int dragonfly_share(const struct sys *sys, int fd, const struct addr *addr,
			   char why[OS_WHY_MAX])
{
	int r = os_refuse(&os_dragonfly, addr, why);

	return r < 0 ? r : backend_set(sys, fd, DRAGONFLY_SO_REUSEPORT, true);
}

static void dragonfly_unshare(const struct sys *sys, int fd, const struct addr *addr, bool had_port,
			      bool had_addr)
{
	(void)addr;
	(void)had_addr; /* SO_REUSEADDR is never touched here */
	if (!had_port)
		backend_set(sys, fd, DRAGONFLY_SO_REUSEPORT, false);
}

static int dragonfly_shared(const struct sys *sys, int fd)
{
	return backend_is_set(sys, fd, DRAGONFLY_SO_REUSEPORT);
}

/* UDP is balanced by the hash that the packet carries; on lo0 it carries none and one socket gets
 * everything. members_max: the limit was removed in February 2020, older kernels have it. */
const struct os os_dragonfly = {
	.name = "DragonFly",
	.caps = OS_BALANCE_TCP | OS_BALANCE_UDP,
	.dual_stack = false,
	.no_balance = NULL,
	.share = dragonfly_share,
	.unshare = dragonfly_unshare,
	.shared = dragonfly_shared,
	.listen_in_bind = false,
	.members_max = 256,
	BACKEND_NO_VIEW,
};

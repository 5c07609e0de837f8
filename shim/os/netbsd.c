/* NetBSD: the newest bind gets every new connection; nothing balances.
 * Sets nothing; compiles on every system. */
#include "backend.h"

#define NETBSD_SO_REUSEPORT 0x0200 /* sys/socket.h of NetBSD */

static int netbsd_share(const struct sys *sys, int fd, const struct addr *addr,
			char why[OS_WHY_MAX])
{
	(void)sys;
	(void)fd;
	return backend_refuse_share(&os_netbsd, addr, why);
}

static int netbsd_shared(const struct sys *sys, int fd)
{
	return backend_is_set(sys, fd, NETBSD_SO_REUSEPORT);
}

/* listen_in_bind: until listen() the newest bind drops the connections that it is given. */
const struct os os_netbsd = {
	.name = "NetBSD",
	.caps = OS_HANDOVER,
	.dual_stack = false,
	.no_balance = "the newest bind gets everything; mode shared would do, "
		      "but the keeper runs on Linux only",
	.share = netbsd_share,
	.unshare = backend_no_unshare,
	.shared = netbsd_shared,
	.listen_in_bind = true,
	.members_max = 1,
	BACKEND_NO_VIEW,
};

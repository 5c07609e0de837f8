/* OpenBSD: the newest bind gets every new connection; nothing balances.
 * Sets nothing; compiles on every system. */
#include "backend.h"

#define OPENBSD_SO_REUSEPORT 0x0200 /* sys/socket.h of OpenBSD */

static int openbsd_share(const struct sys *sys, int fd, const struct addr *addr,
			 char why[OS_WHY_MAX])
{
	(void)sys;
	(void)fd;
	return backend_refuse_share(&os_openbsd, addr, why);
}

static int openbsd_shared(const struct sys *sys, int fd)
{
	return backend_is_set(sys, fd, OPENBSD_SO_REUSEPORT);
}

/* listen_in_bind: until listen() the newest bind drops the connections that it is given. */
const struct os os_openbsd = {
	.name = "OpenBSD",
	.caps = OS_HANDOVER,
	.dual_stack = false,
	.no_balance = "the newest bind gets everything; mode shared would do, "
		      "but the keeper runs on Linux only",
	.share = openbsd_share,
	.unshare = backend_no_unshare,
	.shared = openbsd_shared,
	.listen_in_bind = true,
	.members_max = 1,
	BACKEND_NO_VIEW,
};

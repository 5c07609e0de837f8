/* macOS: a wildcard goes to the oldest bind, a specific address to the newest; nothing balances.
 * Sets nothing; compiles on every system. */
#include "backend.h"

#define DARWIN_SO_REUSEPORT 0x0200 /* sys/socket.h of macOS */

static int darwin_share(const struct sys *sys, int fd, const struct addr *addr,
			char why[OS_WHY_MAX])
{
	(void)sys;
	(void)fd;
	return backend_refuse_share(&os_darwin, addr, why);
}

static int darwin_shared(const struct sys *sys, int fd)
{
	return backend_is_set(sys, fd, DARWIN_SO_REUSEPORT);
}

/* Handover works on specific addresses only: on a wildcard the oldest bind keeps everything. */
const struct os os_darwin = {
	.name = "macOS",
	.caps = OS_HANDOVER,
	.dual_stack = false,
	.no_balance = "one listener gets everything (wildcard: the oldest); mode shared would do, "
		      "but the keeper runs on Linux only",
	.share = darwin_share,
	.unshare = backend_no_unshare,
	.shared = darwin_shared,
	.listen_in_bind = false,
	.members_max = 1,
	BACKEND_NO_VIEW,
};

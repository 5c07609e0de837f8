/* A system that was not studied: nothing is tried, everything is refused with the reason. */
#include "backend.h"

static int unsupported_share(const struct sys *sys, int fd, const struct addr *addr,
			     char why[OS_WHY_MAX])
{
	(void)sys;
	(void)fd;
	return backend_refuse_share(&os_unsupported, addr, why);
}

static int unsupported_shared(const struct sys *sys, int fd)
{
	(void)sys;
	(void)fd;
	return 0;
}

const struct os os_unsupported = {
	.name = "this system",
	.caps = 0,
	.dual_stack = false,
	.no_balance = "its sharing rules are not known here; run one copy, or use Linux",
	.share = unsupported_share,
	.unshare = backend_no_unshare,
	.shared = unsupported_shared,
	.listen_in_bind = false,
	.members_max = 1,
	BACKEND_NO_VIEW,
};

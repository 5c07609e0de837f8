/* shutdown(2): a listener that is shut down leaves its group. */
#include "hook.h"

HOOK_EXPORT int shutdown(int fd, int how)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->shutdown(fd, how);
	return hook_leave(&f, shard_shutdown(sys, fd, how));
}

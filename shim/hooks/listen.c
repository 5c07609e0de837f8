/* listen(2): a TCP socket joins its group. */
#include "hook.h"

HOOK_EXPORT int listen(int fd, int backlog)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_FOREIGN || !hook_enter(&f))
		return sys->listen(fd, backlog);
	return hook_leave(&f, shard_listen(sys, fd, backlog));
}

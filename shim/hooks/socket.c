/* socket(2): only a number of ours that was closed unseen is of interest here. */
#include "hook.h"

HOOK_EXPORT int socket(int domain, int type, int protocol)
{
	const struct sys *sys = sys_get();
	int fd = sys->socket(domain, type, protocol);
	struct hook_frame f;

	if (fd < 0 || fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return fd;
	shard_reused(sys, fd);
	return hook_leave(&f, fd);
}

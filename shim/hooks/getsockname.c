/* getsockname(2): mode shared, where a copy's socket may have its address in name only until it listens. */
#include "hook.h"

HOOK_EXPORT int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->getsockname(fd, addr, len);
	return hook_leave(&f, shard_getsockname(sys, fd, addr, len));
}

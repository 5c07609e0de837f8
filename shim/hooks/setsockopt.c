/* setsockopt(2): a server that works on the sharing of its own socket, or gives it keys too late. */
#include "hook.h"

HOOK_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->setsockopt(fd, level, name, value, len);
	return hook_leave(&f, shard_setsockopt(sys, fd, level, name, value, len));
}

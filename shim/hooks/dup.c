/* dup(2): one more number for a socket. */
#include "hook.h"

#include <unistd.h>

HOOK_EXPORT int dup(int fd)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->dup(fd);
	return hook_leave(&f, shard_dup(sys, fd));
}

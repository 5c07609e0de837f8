/* dup3(2): dup2 with flags. */
#include "hook.h"

#include <unistd.h>

HOOK_EXPORT int dup3(int fd, int fd2, int flags)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if ((fdtab_peek(fd) == FDTAB_NOT_OURS && fdtab_peek(fd2) == FDTAB_NOT_OURS) ||
	    !hook_enter(&f))
		return sys->dup3(fd, fd2, flags);
	return hook_leave(&f, shard_dup3(sys, fd, fd2, flags));
}

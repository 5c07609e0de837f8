/* dup2(2): one more number for a socket; the one that had it is closed. */
#include "hook.h"

#include <unistd.h>

HOOK_EXPORT int dup2(int fd, int fd2)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if ((fdtab_peek(fd) == FDTAB_NOT_OURS && fdtab_peek(fd2) == FDTAB_NOT_OURS) ||
	    !hook_enter(&f))
		return sys->dup2(fd, fd2);
	return hook_leave(&f, shard_dup2(sys, fd, fd2));
}

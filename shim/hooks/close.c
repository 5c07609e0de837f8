/* close(2): the last descriptor of a listener leaves its group. */
#include "hook.h"

#include <unistd.h>

HOOK_EXPORT int close(int fd)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->close(fd);
	return hook_leave(&f, shard_close(sys, fd));
}

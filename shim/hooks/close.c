/* close(2): the last descriptor of a listener leaves its group. */
#include "hook.h"

#include <unistd.h>

/* Apart, so that the call for a descriptor that is not ours has no frame on the stack. */
static __attribute__((noinline)) int close_ours(const struct sys *sys, int fd)
{
	struct hook_frame f;

	if (!hook_enter(&f))
		return sys->close(fd);
	return hook_leave(&f, shard_close(sys, fd));
}

HOOK_EXPORT int close(int fd)
{
	const struct sys *sys = sys_get();

	if (__builtin_expect(fdtab_peek(fd) == FDTAB_NOT_OURS, 1))
		return sys->close(fd);
	return close_ours(sys, fd);
}

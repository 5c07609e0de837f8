/* close(2): the last descriptor of a listener leaves its group. */
#include "hook.h"

#include <unistd.h>

/* Apart, so that the call for a descriptor that is not ours has no frame on the stack. */
static __attribute__((noinline)) int close_rare(int fd)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->close(fd);
	return hook_leave(&f, shard_close(sys, fd));
}

HOOK_EXPORT int close(int fd)
{
	const struct sys *sys = sys_complete;

	if (__builtin_expect(sys && (unsigned)fd < FDTAB_MARKS && fdtab_peek(fd) == FDTAB_NOT_OURS, 1))
		return sys->close(fd);
	return close_rare(fd);
}

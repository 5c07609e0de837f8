/* fcntl(2): F_DUPFD and F_DUPFD_CLOEXEC are dups; all else passes. Programs built for large files
 * call it by the name fcntl64. */
#include "hook.h"

#include <fcntl.h>
#include <stdarg.h>

int fcntl64(int fd, int cmd, ...);

static int dispatch(int fd, int cmd, void *arg)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if ((cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC) || fdtab_peek(fd) == FDTAB_NOT_OURS ||
	    !hook_enter(&f))
		return sys->fcntl(fd, cmd, arg);
	return hook_leave(&f, shard_fcntl_dup(sys, fd, cmd, (int)(intptr_t)arg));
}

HOOK_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *); /* as every libc does: an int or a pointer, both in one register */
	va_end(ap);
	return dispatch(fd, cmd, arg);
}

#if __SIZEOF_LONG__ == 8 /* elsewhere its struct flock is another */
HOOK_EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return dispatch(fd, cmd, arg);
}
#endif

/* epoll_ctl(2): a listener that is registered is waited for. */
#include "hook.h"

#include <sys/epoll.h>

/* Apart, so that the call for a descriptor that is not ours has no frame on the stack. */
static __attribute__((noinline)) int of_ours(int epfd, int op, int fd, struct epoll_event *event)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (!hook_enter(&f))
		return sys->epoll_ctl(epfd, op, fd, event);
	return hook_leave(&f, shard_epoll_ctl(sys, epfd, op, fd, event));
}

HOOK_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (__builtin_expect(fdtab_peek(fd) == FDTAB_NOT_OURS, 1))
		return sys_get()->epoll_ctl(epfd, op, fd, event);
	return of_ours(epfd, op, fd, event);
}

/* epoll_create(2): an instance that no other process shares yet. */
#include "hook.h"

#include <sys/epoll.h>

static int created(int epfd)
{
	struct hook_frame f;

	if (epfd < 0 || !hook_enter(&f))
		return epfd;
	shard_epoll_created(sys_get(), epfd);
	return hook_leave(&f, epfd);
}

HOOK_EXPORT int epoll_create(int size)
{
	return created(sys_get()->epoll_create(size));
}

HOOK_EXPORT int epoll_create1(int flags)
{
	return created(sys_get()->epoll_create1(flags));
}

/* bind(2): the first call that shows which address the server wants. */
#include "hook.h"

HOOK_EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (!hook_enter(&f))
		return sys->bind(fd, addr, len);
	return hook_leave(&f, shard_bind(sys, fd, addr, len));
}

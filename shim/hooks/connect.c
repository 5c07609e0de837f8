/* connect(2): a socket that connects is none of ours; AF_UNSPEC ends a listener. */
#include "hook.h"

HOOK_EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (fdtab_peek(fd) == FDTAB_NOT_OURS || !hook_enter(&f))
		return sys->connect(fd, addr, len);
	return hook_leave(&f, shard_connect(sys, fd, addr, len));
}

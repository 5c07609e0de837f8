/* accept4(2): as accept(2). */
#include "hook.h"

HOOK_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	const struct sys *sys = sys_get();
	uintptr_t mark = hook_accepts(sys, fd);
	socklen_t room = mark && addr && len ? *len : 0;
	int r = sys->accept4(fd, addr, len, flags);

	if (r >= 0 && mark && fdtab_count(mark))
		r = hook_given(sys, fd, r, addr, len, room, flags);
	return r;
}

/* accept4(2): as accept(2). */
#include "hook.h"

HOOK_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	const struct sys *sys = sys_get();
	uintptr_t mark = hook_accepts(sys, fd);
	socklen_t room;
	int r;

	if (mark == FDTAB_NOT_OURS)
		return sys->accept4(fd, addr, len, flags);
	room = addr && len ? *len : 0;
	r = sys->accept4(fd, addr, len, flags);
	if (r >= 0 && __builtin_expect(fdtab_count(mark) != 0, 0))
		r = hook_given(sys, fd, r, addr, len, room, flags);
	return r;
}

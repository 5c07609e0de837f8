/* accept(2): one relaxed load and one relaxed counter on a listener of ours; nothing on others. */
#include "hook.h"

HOOK_EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	const struct sys *sys = sys_get();
	uintptr_t mark = hook_accepts(sys, fd);
	socklen_t room;
	int r;

	if (mark == FDTAB_NOT_OURS)
		return sys->accept(fd, addr, len);
	room = addr && len ? *len : 0;
	r = sys->accept(fd, addr, len);
	if (r >= 0 && __builtin_expect(fdtab_count(mark) != 0, 0))
		r = hook_given(sys, fd, r, addr, len, room, 0);
	return r;
}

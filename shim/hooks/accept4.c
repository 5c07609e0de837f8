/* accept4(2): as accept(2). */
#include "hook.h"

HOOK_LEAN
HOOK_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	uintptr_t mark = fdtab_peek(fd);
	struct hook_call call;
	int r;

	if (__builtin_expect(!fdtab_is_plain(mark), 0))
		return hook_accept_rare(fd, addr, len, flags);
	call.fd = fd;
	call.flags = flags;
	call.addr = addr;
	call.len = len;
	if (addr && len)
		call.room = *len;
	r = sys_complete->accept4(fd, addr, len, flags);
	if (r < 0) {
		if (__builtin_expect((fdtab_flags_at(mark) & WIRE_KEEPER_DIED) != 0, 0))
			hook_notice(&call);
		return r;
	}
	if (__builtin_expect(fdtab_count_at(mark) != 0, 0))
		r = hook_given(&call, r);
	return r;
}

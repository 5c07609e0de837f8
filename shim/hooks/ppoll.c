/* ppoll(2): as poll(2). */
/* Its inline form must not stand in for the call that is defined here. */
#undef _FORTIFY_SOURCE
#include "hook.h"

/* NOLINTNEXTLINE(bugprone-reserved-identifier): the name is glibc's */
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t room_bytes);

HOOK_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                      const sigset_t *mask)
{
	if (hook_must_touch())
		hook_touch_polled((uintptr_t)fds, n);
	return sys_get()->ppoll(fds, n, timeout, mask);
}

HOOK_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                            const sigset_t *mask, size_t room_bytes)
{
	if (hook_must_touch() && room_bytes / sizeof(*fds) >= n)
		hook_touch_polled((uintptr_t)fds, n);
	return sys_get()->ppoll_chk(fds, n, timeout, mask, room_bytes);
}

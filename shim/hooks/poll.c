/* poll(2): the first wait for a listener. Programs built with _FORTIFY_SOURCE call __poll_chk. */
/* Its inline form must not stand in for the call that is defined here. */
#undef _FORTIFY_SOURCE
#include "hook.h"

/* NOLINTNEXTLINE(bugprone-reserved-identifier): the name is glibc's */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room_bytes);

HOOK_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	if (hook_must_touch())
		hook_touch_polled((uintptr_t)fds, n);
	return sys_get()->poll(fds, n, timeout_ms);
}

HOOK_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room_bytes)
{
	if (hook_must_touch() && room_bytes / sizeof(*fds) >= n)
		hook_touch_polled((uintptr_t)fds, n);
	return sys_get()->poll_chk(fds, n, timeout_ms, room_bytes);
}

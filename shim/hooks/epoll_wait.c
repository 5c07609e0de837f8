/* epoll_wait(2): the first wait for a listener that was registered before it listened, or before a
 * fork. */
#include "hook.h"

#include <sys/epoll.h>

int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
                 const sigset_t *mask); /* glibc 2.35 */

HOOK_EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	if (hook_must_touch())
		hook_touch_registered(epfd);
	return sys_get()->epoll_wait(epfd, events, max, timeout_ms);
}

HOOK_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout_ms,
                            const sigset_t *mask)
{
	if (hook_must_touch())
		hook_touch_registered(epfd);
	return sys_get()->epoll_pwait(epfd, events, max, timeout_ms, mask);
}

HOOK_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
                             const struct timespec *timeout, const sigset_t *mask)
{
	if (hook_must_touch())
		hook_touch_registered(epfd);
	return sys_get()->epoll_pwait2(epfd, events, max, timeout, mask);
}

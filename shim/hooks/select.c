/* select(2): the first wait for a listener. */
#include "hook.h"

HOOK_EXPORT int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
	if (hook_must_touch())
		hook_touch_selected(n, r);
	return sys_get()->select(n, r, w, e, timeout);
}

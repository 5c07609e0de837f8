/* pselect(2): as select(2). */
#include "hook.h"

HOOK_EXPORT int pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
                        const sigset_t *mask)
{
	if (hook_must_touch())
		hook_touch_selected(n, r);
	return sys_get()->pselect(n, r, w, e, timeout, mask);
}

/* close_range(2): around the preload's own descriptors. */
#include "hook.h"

int close_range(unsigned int first, unsigned int last, int flags); /* musl does not declare it */

HOOK_EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;

	if (!hook_enter(&f))
		return sys->close_range(first, last, flags);
	return hook_leave(&f, shard_close_range(sys, first, last, flags));
}

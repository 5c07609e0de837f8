/* closefrom(3): close_range to the end. */
#include "hook.h"

#include <limits.h>

void closefrom(int fd);

HOOK_EXPORT void closefrom(int fd)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;
	unsigned int first = fd < 0 ? 0 : (unsigned int)fd;

	if (!hook_enter(&f)) {
		(void)sys->close_range(first, UINT_MAX, 0);
		return;
	}
	if (shard_close_range(sys, first, UINT_MAX, 0) < 0)
		shard_close_each(sys, first);
	(void)hook_leave(&f, 0);
}

/* syscall(2): libuv closes by it; libseccomp installs its filter by it. All else passes, as it came:
 * a library below us may have a close(3) that calls this. */
#include "hook.h"

#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

HOOK_EXPORT long syscall(long number, ...)
{
	const struct sys *sys = sys_get();
	struct hook_frame f;
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_close && fdtab_peek((int)a[0]) != FDTAB_NOT_OURS && hook_enter(&f))
		return hook_leave(&f, shard_close(sys, (int)a[0]));
#ifdef SYS_close_range
	if (number == SYS_close_range && hook_enter(&f))
		return hook_leave(&f, shard_close_range(sys, (unsigned int)a[0], (unsigned int)a[1],
		                                        (int)a[2]));
#endif
	if ((number == SYS_seccomp && a[0] != SECCOMP_GET_ACTION_AVAIL &&
	     a[0] != SECCOMP_GET_NOTIF_SIZES) ||
	    (number == SYS_prctl && a[0] == PR_SET_SECCOMP))
		hook_sandbox();
	return sys->syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* prctl(2): the server installs a seccomp filter. All else passes. */
#include "hook.h"

#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

HOOK_EXPORT int prctl(int option, ...)
{
	const struct sys *sys = sys_get();
	unsigned long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_SECCOMP)
		hook_sandbox();
	return (int)sys->syscall(SYS_prctl, option, a[0], a[1], a[2], a[3]);
}

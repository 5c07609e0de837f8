/* The provider of the preload: the next library's calls, found by dlsym(RTLD_NEXT). Resolves itself
 * at the first use, without lock or malloc: two threads that resolve at once write the same values. */
#include "sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Not in every libc's headers (musl). */
int close_range(unsigned int first, unsigned int last, int flags);

static struct sys table;
const struct sys *_Atomic sys_complete;

static int missing(void)
{
	errno = ENOSYS;
	return -1;
}

static int raw_close_range(unsigned int first, unsigned int last, int flags)
{
#ifdef SYS_close_range
	return (int)table.syscall(SYS_close_range, first, last, flags);
#else
	(void)first;
	(void)last;
	(void)flags;
	return missing();
#endif
}

/* What RTLD_NEXT finds must never be a hook of this very library: that would be an endless loop. */
static void *next(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);
	Dl_info found, own;

	if (p && dladdr(p, &found) && dladdr(&table, &own) && found.dli_fbase == own.dli_fbase)
		return NULL;
	return p;
}

/* ISO C has no conversion between object and function pointers; POSIX promises it for dlsym. */
#define RESOLVE(member, fallback) RESOLVE_AS(member, #member, fallback)
#define RESOLVE_AS(member, name, fallback)                                                         \
	do {                                                                                       \
		void *p_ = next(name);                                                             \
		if (!p_)                                                                           \
			p_ = (void *)(uintptr_t)(fallback);                                        \
		__atomic_store_n((void **)(void *)&table.member, p_, __ATOMIC_RELAXED);            \
	} while (0)

const struct sys *sys_resolve(void)
{
	RESOLVE(syscall, missing);
	RESOLVE(socket, missing);
	RESOLVE(bind, missing);
	RESOLVE(listen, missing);
	RESOLVE(accept, missing);
	RESOLVE(accept4, missing);
	RESOLVE(connect, missing);
	RESOLVE(shutdown, missing);
	RESOLVE(close, missing);
	RESOLVE(close_range, raw_close_range);
	RESOLVE(dup, missing);
	RESOLVE(dup2, missing);
	RESOLVE(dup3, missing);
	RESOLVE(fcntl, missing);
	RESOLVE(setsockopt, missing);
	RESOLVE(getsockopt, missing);
	RESOLVE(getsockname, missing);
	RESOLVE(sendmsg, missing);
	RESOLVE(recvmsg, missing);
	RESOLVE(poll, missing);
	RESOLVE(ppoll, missing);
	RESOLVE_AS(poll_chk, "__poll_chk", missing); /* glibc: calls of programs built with _FORTIFY_SOURCE */
	RESOLVE_AS(ppoll_chk, "__ppoll_chk", missing);
	RESOLVE(select, missing);
	RESOLVE(pselect, missing);
	RESOLVE(epoll_create, missing);
	RESOLVE(epoll_create1, missing);
	RESOLVE(epoll_ctl, missing);
	RESOLVE(epoll_wait, missing);
	RESOLVE(epoll_pwait, missing);
	RESOLVE(epoll_pwait2, missing);
	atomic_store_explicit(&sys_complete, &table, memory_order_release);
	return &table;
}

/* The provider of the command: the libc it was linked with. The wrappers exist because glibc declares
 * the socket calls with a transparent union, and because not every libc has every call. */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys.h"

static int libc_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return bind(fd, addr, len);
}

static int libc_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return accept(fd, addr, len);
}

static int libc_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return connect(fd, addr, len);
}

static int libc_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	return getsockname(fd, addr, len);
}

#ifdef __APPLE__
static int libc_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	(void)fd, (void)addr, (void)len, (void)flags;
	errno = ENOSYS;
	return -1;
}

static int libc_dup3(int fd, int fd2, int flags)
{
	(void)fd, (void)fd2, (void)flags;
	errno = ENOSYS;
	return -1;
}
#else
static int libc_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return accept4(fd, addr, len, flags);
}

static int libc_dup3(int fd, int fd2, int flags)
{
	return dup3(fd, fd2, flags);
}
#endif

#ifdef __linux__
/* musl has no close_range(3) */
static int libc_close_range(unsigned int first, unsigned int last, int flags)
{
#ifdef SYS_close_range
	return (int)syscall(SYS_close_range, first, last, flags);
#else
	(void)first, (void)last, (void)flags;
	errno = ENOSYS;
	return -1;
#endif
}

#define libc_syscall syscall
#else
static int libc_close_range(unsigned int first, unsigned int last, int flags)
{
	(void)first, (void)last, (void)flags;
	errno = ENOSYS;
	return -1;
}

/* OpenBSD has no syscall(2) any more; nothing portable asks for it. */
static long libc_syscall(long number, ...)
{
	(void)number;
	errno = ENOSYS;
	return -1;
}
#endif

const struct sys *_Atomic sys_complete;

const struct sys *sys_resolve(void)
{
	static const struct sys libc = {
		.socket = socket,
		.bind = libc_bind,
		.listen = listen,
		.accept = libc_accept,
		.accept4 = libc_accept4,
		.connect = libc_connect,
		.shutdown = shutdown,
		.close = close,
		.close_range = libc_close_range,
		.dup = dup,
		.dup2 = dup2,
		.dup3 = libc_dup3,
		.fcntl = fcntl,
		.setsockopt = setsockopt,
		.getsockopt = getsockopt,
		.getsockname = libc_getsockname,
		.sendmsg = sendmsg,
		.recvmsg = recvmsg,
		.poll = poll,
		.syscall = libc_syscall,
	};

	atomic_store_explicit(&sys_complete, &libc, memory_order_release);
	return &libc;
}

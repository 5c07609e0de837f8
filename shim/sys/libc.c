/* The provider of the command: the libc it was linked with. The wrappers exist because glibc declares
 * the socket calls with a transparent union, and because not every libc has every call. */
#include <errno.h>
#include <fcntl.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif
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

/* glibc 2.35 */
static int libc_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                             const struct timespec *timeout, const sigset_t *mask)
{
#ifdef SYS_epoll_pwait2
	return (int)syscall(SYS_epoll_pwait2, epfd, events, max, timeout, mask, _NSIG / 8);
#else
	(void)epfd, (void)events, (void)max, (void)timeout, (void)mask;
	errno = ENOSYS;
	return -1;
#endif
}

static int libc_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                      const sigset_t *mask)
{
	return ppoll(fds, n, timeout, mask);
}

static int libc_poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room_bytes)
{
	(void)room_bytes;
	return poll(fds, n, timeout_ms);
}

static int libc_ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                          const sigset_t *mask, size_t room_bytes)
{
	(void)room_bytes;
	return libc_ppoll(fds, n, timeout, mask);
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
#ifdef __linux__
		.ppoll = libc_ppoll,
		.poll_chk = libc_poll_chk,
		.ppoll_chk = libc_ppoll_chk,
		.select = select,
		.pselect = pselect,
		.epoll_create = epoll_create,
		.epoll_create1 = epoll_create1,
		.epoll_ctl = epoll_ctl,
		.epoll_wait = epoll_wait,
		.epoll_pwait = epoll_pwait,
		.epoll_pwait2 = libc_epoll_pwait2,
#endif
	};

	atomic_store_explicit(&sys_complete, &libc, memory_order_release);
	return &libc;
}

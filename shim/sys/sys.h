/* The libc below us, as one table of function pointers: the hooked calls and what the fakes of the
 * tests need. Owns nothing. Three providers fill it: next.c (dlsym, the preload), libc.c (the
 * command), and the tests' fake. Members behave as the libc call of that name: -1 and errno. */
#ifndef SOCKSHARD_SYS_SYS_H
#define SOCKSHARD_SYS_SYS_H

#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <signal.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>

struct epoll_event;

struct sys {
	int (*socket)(int domain, int type, int protocol);
	int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*listen)(int fd, int backlog);
	int (*accept)(int fd, struct sockaddr *addr, socklen_t *len);
	int (*accept4)(int fd, struct sockaddr *addr, socklen_t *len, int flags);
	int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*shutdown)(int fd, int how);
	int (*close)(int fd);
	int (*close_range)(unsigned int first, unsigned int last, int flags);
	int (*dup)(int fd);
	int (*dup2)(int fd, int fd2);
	int (*dup3)(int fd, int fd2, int flags);
	int (*fcntl)(int fd, int cmd, ...);
	int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
	int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
	int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *len);
	ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
	ssize_t (*recvmsg)(int fd, struct msghdr *msg, int flags);
	int (*poll)(struct pollfd *fds, nfds_t n, int timeout_ms);
	long (*syscall)(long number, ...);
#ifdef __linux__ /* what the hooks of waiting calls and the moving of listeners need */
	int (*ppoll)(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
	int (*poll_chk)(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room_bytes);
	int (*ppoll_chk)(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	                 const sigset_t *mask, size_t room_bytes);
	int (*select)(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout);
	int (*pselect)(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
	               const sigset_t *mask);
	int (*epoll_create)(int size);
	int (*epoll_create1)(int flags);
	int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *event);
	int (*epoll_wait)(int epfd, struct epoll_event *events, int max, int timeout_ms);
	int (*epoll_pwait)(int epfd, struct epoll_event *events, int max, int timeout_ms,
	                   const sigset_t *mask);
	int (*epoll_pwait2)(int epfd, struct epoll_event *events, int max,
	                    const struct timespec *timeout, const sigset_t *mask);
#endif
};

/* The provider once it is complete; NULL before. */
extern const struct sys *_Atomic sys_complete __attribute__((visibility("hidden")));

/** sys_resolve - the rare part of sys_get() */
const struct sys *sys_resolve(void);

/**
 * sys_get - the provider this program was linked with
 *
 * Never NULL; safe before any constructor ran, in signal handlers and in vforked children; takes no
 * lock and calls no malloc. Every member is set (a call the system lacks fails with ENOSYS).
 */
static inline const struct sys *sys_get(void)
{
	const struct sys *sys = atomic_load_explicit(&sys_complete, memory_order_acquire);

	return __builtin_expect(sys != NULL, 1) ? sys : sys_resolve();
}

#endif

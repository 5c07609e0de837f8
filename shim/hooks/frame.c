/* Entering and leaving the preload. A signal handler of the server that runs in between, and does not
 * return, or a thread that is cancelled, must not leave our lock or our link taken: so both wait until
 * we are done. */
#include "hook.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static __thread bool inside __attribute__((tls_model("initial-exec")));

bool hook_enter(struct hook_frame *f)
{
	sigset_t all;

	if (inside)
		return false;
	f->error = errno;
	f->masked = !atomic_load_explicit(&init_sandboxed, memory_order_relaxed);
	if (f->masked) {
		sigfillset(&all);
		f->masked = pthread_sigmask(SIG_BLOCK, &all, &f->mask) == 0;
	}
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &f->cancel);
	inside = true;
	return true;
}

void hook_sandbox(void)
{
	struct hook_frame f;

	if (hook_enter(&f)) {
		shard_sandboxed();
		(void)hook_leave(&f, 0);
	}
	init_sandbox();
}

static void touch(int fd, enum shard_touch kind)
{
	struct hook_frame f;

	if (hook_enter(&f)) {
		shard_touch(sys_get(), fd, kind, -1);
		(void)hook_leave(&f, 0);
	}
}

static void scan(void)
{
	struct hook_frame f;

	if (hook_enter(&f)) {
		shard_scan(sys_get());
		(void)hook_leave(&f, 0);
	}
}

void hook_received(const void *fds, size_t bytes)
{
	struct hook_frame f;

	if (!hook_enter(&f))
		return;
	for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
		int fd;

		memcpy(&fd, (const char *)fds + at, sizeof(fd));
		shard_received(sys_get(), fd);
	}
	(void)hook_leave(&f, 0);
}

void hook_touch_polled(uintptr_t pollfds, nfds_t n)
{
	const struct pollfd *fds = (const void *)pollfds;

	scan();
	for (nfds_t i = 0; i < n; i++)
		if (fds[i].fd >= 0 && (fds[i].events & (POLLIN | POLLRDNORM)) &&
		    fdtab_wants_touch(fdtab_peek(fds[i].fd)))
			touch(fds[i].fd, TOUCH_WAIT);
}

void hook_touch_selected(int n, const fd_set *set)
{
	const unsigned long *words = (const void *)set; /* FD_ISSET would end at 1,024 */
	const int bits = 8 * (int)sizeof(*words);

	scan();
	for (int fd = 0; set && fd < n; fd++)
		if ((words[fd / bits] >> (fd % bits) & 1) && fdtab_wants_touch(fdtab_peek(fd)))
			touch(fd, TOUCH_WAIT);
}

void hook_touch_registered(int epfd)
{
	struct hook_frame f;

	if (shard_epoll_watched() > 0 && hook_enter(&f)) {
		shard_epoll_wait(sys_get(), epfd);
		(void)hook_leave(&f, 0);
	}
}

int hook_given(const struct hook_call *call, int accepted)
{
	const struct sys *sys = sys_get();
	struct sockaddr *addr = call->addr;
	socklen_t *len = call->len, room = addr && len ? call->room : 0;
	int fd = call->fd, flags = call->flags;
	struct hook_frame f;

	/* To ask takes calls that a filter may forbid. A nudge is a client that says nothing then. */
	if (atomic_load_explicit(&init_sandboxed, memory_order_relaxed))
		return accepted;
	for (;;) {
		uintptr_t mark;
		int r;

		if (!hook_enter(&f))
			return accepted;
		r = hook_leave(&f, shard_given(sys, fd, accepted, addr, len, room, flags));
		if (r != -1 || errno != ECANCELED)
			return r;
		/* A nudge without a gift: on with what the server wants, signals and all. */
		if (addr && len)
			*len = room;
		mark = fdtab_peek(fd); /* another thread may close it meanwhile */
		r = sys->accept4(fd, addr, len, flags);
		if (r < 0 || !fdtab_is_plain(mark) || !fdtab_count_at(mark))
			return r;
		accepted = r;
	}
}

void hook_notice(const struct hook_call *call)
{
	struct hook_frame f;

	if (hook_enter(&f)) {
		shard_notice(sys_get(), call->fd);
		(void)hook_leave(&f, 0);
	}
}

int hook_leave(struct hook_frame *f, int r)
{
	inside = false;
	(void)pthread_setcancelstate(f->cancel, NULL);
	if (f->masked)
		(void)pthread_sigmask(SIG_SETMASK, &f->mask, NULL);
	if (r < 0) {
		errno = -r;
		return -1;
	}
	errno = f->error;
	return r;
}

static int real_accept(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	const struct sys *sys = sys_get();

	return flags == HOOK_ACCEPT ? sys->accept(fd, addr, len) : sys->accept4(fd, addr, len, flags);
}

int hook_accept_rare(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	uintptr_t mark = fdtab_peek(fd);
	struct hook_call call = { .fd = fd, .flags = flags == HOOK_ACCEPT ? 0 : flags };
	int r;

	if (fdtab_is_known(mark) || (mark != FDTAB_FOREIGN && (unsigned)fd < FDTAB_MARKS)) {
		touch(fd, TOUCH_ACCEPT);
		mark = fdtab_peek(fd);
	}
	if (!fdtab_is_known(mark)) {
		if (!atomic_load_explicit(&init_accepted, memory_order_relaxed))
			atomic_store_explicit(&init_accepted, true, memory_order_relaxed);
		return real_accept(fd, addr, len, flags);
	}
	call.addr = addr;
	call.len = len;
	call.room = addr && len ? *len : 0;
	r = real_accept(fd, addr, len, flags);
	if (r >= 0 && fdtab_count(mark))
		r = hook_given(&call, r);
	return r;
}

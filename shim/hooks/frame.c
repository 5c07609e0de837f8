/* Entering and leaving the preload. A signal handler of the server that runs in between, and does not
 * return, must not leave our lock taken: so signals wait until we are done. */
#include "hook.h"

#include <errno.h>
#include <pthread.h>

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

uintptr_t hook_claim(int fd)
{
	struct hook_frame f;
	uintptr_t mark;

	if (hook_enter(&f)) {
		shard_claim(sys_get(), fd);
		(void)hook_leave(&f, 0);
	}
	mark = fdtab_peek(fd);
	return mark == FDTAB_INTERNAL ? 0 : mark;
}

int hook_given(const struct hook_call *call, int accepted)
{
	const struct sys *sys = sys_get();
	struct sockaddr *addr = call->addr;
	socklen_t *len = call->len, room = call->room;
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
		if (r < 0 || !mark || (mark & 3) || !fdtab_count(mark))
			return r;
		accepted = r;
	}
}

int hook_leave(struct hook_frame *f, int r)
{
	inside = false;
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

	if (mark == FDTAB_NOT_OURS) {
		if (!atomic_load_explicit(&init_accepted, memory_order_relaxed))
			atomic_store_explicit(&init_accepted, true, memory_order_relaxed);
		return real_accept(fd, addr, len, flags);
	}
	mark = hook_claim(fd);
	if (mark == FDTAB_NOT_OURS)
		return real_accept(fd, addr, len, flags);
	call.addr = addr;
	call.len = len;
	call.room = addr && len ? *len : 0;
	r = real_accept(fd, addr, len, flags);
	if (r >= 0 && fdtab_count(mark))
		r = hook_given(&call, r);
	return r;
}

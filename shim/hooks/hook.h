/* What every hook does around its one core call. */
#ifndef SOCKSHARD_HOOKS_HOOK_H
#define SOCKSHARD_HOOKS_HOOK_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "../core/fdtab.h"
#include "../core/init.h"
#include "../core/shard.h"
#include "../sys/sys.h"

#define HOOK_EXPORT __attribute__((visibility("default")))

/* The way of every accept: its frame holds no array that a canary could guard. */
#if __has_attribute(no_stack_protector)
#define HOOK_LEAN __attribute__((no_stack_protector))
#else
#define HOOK_LEAN
#endif

struct hook_frame {
	int error;
	bool masked;
	int cancel; /* as the server's thread had it */
	sigset_t mask;
};

/**
 * hook_enter - before the core call: signals and pthread_cancel(3) wait, errno is noted
 *
 * Returns false when this thread is inside the preload already (its own call, or a library's below
 * it): then the hook passes straight through and does not leave.
 */
bool hook_enter(struct hook_frame *f);

/** hook_leave - after it: r >= 0 is returned with errno as it was found, -errno becomes -1 */
int hook_leave(struct hook_frame *f, int r);

/** hook_sandbox - before the server installs a seccomp filter */
void hook_sandbox(void);

/** hook_received - the bytes of an SCM_RIGHTS message: descriptors that are this process's now */
void hook_received(const void *fds, size_t bytes);

/* Before a call that waits, while fdtab_touch is not 0: the first wait for a listener claims it. */
void hook_touch_polled(uintptr_t pollfds, nfds_t n); /* glibc declares poll(2) as if it only wrote */
void hook_touch_selected(int n, const fd_set *set);
void hook_touch_registered(int epfd);

/** hook_must_touch - one load: nearly always false */
static inline bool hook_must_touch(void)
{
	return __builtin_expect(atomic_load_explicit(&fdtab_touch, memory_order_relaxed) != 0, 0);
}

/* An accept of ours, for what rarely comes after it. In memory, so that the common way saves no
 * registers for it. */
struct hook_call {
	int fd, flags;
	struct sockaddr *addr;
	socklen_t *len;
	socklen_t room; /* what *len was before; not set without addr and len */
};

/** hook_given - after an accept, while the keeper nudges: what the server gets instead */
int hook_given(const struct hook_call *call, int accepted);

/** hook_notice - the keeper has ended, and there was nothing to accept; errno stays as it is */
void hook_notice(const struct hook_call *call);

/* The flags of hook_accept_rare() that stand for accept(2). */
#define HOOK_ACCEPT (-1)

/** hook_accept_rare - accept on a socket that is not ours, or that this process has yet to claim */
int hook_accept_rare(int fd, struct sockaddr *addr, socklen_t *len, int flags);

#endif

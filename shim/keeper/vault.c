/* See vault.h. */
#include "vault.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../sys/pidfd.h"
#include "../util/log.h"

#define SOON_MS   50   /* a worker that lives shorter has died in vain */
#define PAUSE_MAX_MS 1000
#define IN_VAIN_MAX 20 /* then the keeper ends: the next one begins without our state */
#define TERM_MS   3000 /* a worker that is asked to end has so long */

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

static volatile sig_atomic_t terminated;
static sigset_t unblocked;

static void on_term(int signal)
{
	(void)signal;
	terminated = 1;
}

void vault_signals(void)
{
	struct sigaction sa;
	sigset_t set;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_term;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, &unblocked);
	sigdelset(&unblocked, SIGTERM);
	sigdelset(&unblocked, SIGINT);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGINT, &sa, NULL);
}

const void *vault_unblocked(void)
{
	return &unblocked;
}

bool vault_terminated(void)
{
	return terminated;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A fork that shares the descriptor table. The pidfd is recorded before the child runs: whoever dies
 * when, no descriptor is without a name. Not clone3: container profiles refuse it. */
static int fork_with_files(int *ret_pidfd)
{
	unsigned long flags = CLONE_FILES | CLONE_PIDFD | SIGCHLD;
	int old = *ret_pidfd;
	long pid;

	*ret_pidfd = NONE;
	if (old != NONE)
		close(old);
#if defined(__s390__)
	pid = syscall(SYS_clone, 0UL, flags, ret_pidfd, 0UL, 0UL);
#else
	pid = syscall(SYS_clone, flags, 0UL, ret_pidfd, 0UL, 0UL);
#endif
	if (pid == 0)
		terminated = 0;
	return pid == -1 ? -errno : (int)pid;
}

/* Whoever ends the keeper then ends all of it: shards take what they know to the next one. */
static void be_alone(struct shared *s, const char *refused, int error)
{
	if (s->vault.pidfd >= 0)
		close(s->vault.pidfd);
	s->vault.pidfd = NONE;
	s->vault.pid = 0;
	log_warn("keeper: %s: %s: one process instead of two, when it is killed the keeper is gone",
	         refused, strerror(error));
}

int vault_open(struct shared *s)
{
	s->vault.pid = (int)getpid();
	s->vault.pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (s->vault.pidfd >= 0)
		return 0;
	be_alone(s, "pidfd_open", errno);
	return -ENOTSUP;
}

bool vault_is_over(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd == NONE || poll(&p, 1, 0) == 1;
}

static void pause_ms(int64_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	(void)ppoll(NULL, 0, &ts, &unblocked);
}

/* The children that are ours: none of them has anything to say. */
static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* -> 1 in the worker, 0 in the vault, -errno. */
static int make_worker(struct shared *s)
{
	int r;

	s->in_vain = now_ms() - s->made_at < SOON_MS ? s->in_vain + 1 : 0;
	if (s->in_vain > IN_VAIN_MAX)
		return -EIO;
	if (s->in_vain > 1)
		pause_ms(s->in_vain > 8 ? PAUSE_MAX_MS : 4 << s->in_vain);
	if (terminated)
		return 0;
	s->made_at = now_ms();
	r = fork_with_files(&s->worker.pidfd);
	if (r == 0) {
		s->worker.pid = (int)getpid();
		return 1;
	}
	return r < 0 ? r : 0;
}

/* The worker ends by itself; one that is stopped finds the signal when it goes on. */
static void end_worker(struct shared *s)
{
	struct pollfd p = { .fd = s->worker.pidfd, .events = POLLIN };

	atomic_store(&s->ending, true);
	if (p.fd == NONE)
		return;
	(void)syscall(SYS_pidfd_send_signal, p.fd, SIGTERM, NULL, 0);
	(void)poll(&p, 1, TERM_MS);
}

enum vault_role vault_watch(struct shared *s)
{
	s->vault.pid = (int)getpid();
	for (;;) {
		struct pollfd p = { .events = POLLIN };
		int r;

		reap();
		if (terminated) {
			end_worker(s);
			return ROLE_OVER;
		}
		if (vault_is_over(s->worker.pidfd)) {
			if (atomic_load(&s->ending))
				return ROLE_OVER;
			if (s->worker.pidfd != NONE)
				log_warn("keeper: worker %d is gone: making another", s->worker.pid);
			r = make_worker(s);
			if (r == 1)
				return ROLE_WORKER;
			if (r == -EIO) {
				log_error("keeper: workers die as soon as they run: giving up");
				return ROLE_OVER;
			}
			if (r < 0 && s->worker.pid == 0) { /* never was one: nobody is served until there is */
				be_alone(s, "clone", -r);
				return ROLE_WORKER;
			}
			if (r < 0)
				pause_ms(PAUSE_MAX_MS); /* out of memory or processes */
			continue;
		}
		p.fd = s->worker.pidfd;
		(void)ppoll(&p, 1, NULL, &unblocked);
	}
}

int vault_renew(struct shared *s)
{
	int r;

	reap();
	r = fork_with_files(&s->vault.pidfd);
	if (r == 0) {
		s->vault.pid = (int)getpid();
		return 1;
	}
	if (r < 0)
		return r;
	s->vault.pid = r;
	return 0;
}

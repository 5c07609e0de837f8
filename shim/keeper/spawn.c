/* Starting a keeper from inside somebody's server: a grandchild made by two vforks with exit signal 0,
 * so that the server gets no SIGCHLD, keeps no zombie and copies no page tables. */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES 65536u
#define READY_FD    3

struct spawn {
	const struct sys *sys;
	const char *command;
	char *argv[8];
	char *envp[2];
	int ready_fd;
	char *stack; /* of the second child: the first one still runs on the other half */
	volatile int error;
};

static void default_signals(void)
{
	struct sigaction dfl;
	sigset_t none;

	memset(&dfl, 0, sizeof(dfl));
	dfl.sa_handler = SIG_DFL;
	for (int s = 1; s < NSIG; s++)
		(void)sigaction(s, &dfl, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_all_from(const struct sys *sys, int first)
{
	if (sys->close_range((unsigned int)first, ~0u, 0) == 0)
		return;
	for (int fd = first; fd < 4096; fd++) /* kernels before 5.9 */
		(void)sys->close(fd);
}

/* The keeper to be. Runs in the server's memory until exec: calls nothing that keeps state. */
static int grandchild(void *arg)
{
	struct spawn *s = arg;
	int null, ready;

	(void)setsid();
	ready = s->sys->fcntl(s->ready_fd, F_DUPFD, READY_FD + 1);
	null = open("/dev/null", O_RDWR);
	if (ready == -1 || null == -1)
		goto fail;
	for (int fd = 0; fd < READY_FD; fd++)
		if (s->sys->dup2(null, fd) == -1)
			goto fail;
	if (s->sys->dup2(ready, READY_FD) == -1 || chdir("/") == -1)
		goto fail;
	close_all_from(s->sys, READY_FD + 1);
	default_signals();
	(void)execve(s->command, s->argv, s->envp);
fail:
	s->error = errno;
	_exit(127);
}

static int child(void *arg)
{
	struct spawn *s = arg;

	if (clone(grandchild, s->stack, CLONE_VM | CLONE_VFORK, s) == -1)
		s->error = errno;
	_exit(0);
}

/* The other end of the pipe closes when the keeper listens, or when there is none. */
static int wait_ready(const struct sys *sys, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r = sys->poll(&p, 1, KEEPER_START_MS);

	if (r == 0)
		return -ETIMEDOUT;
	return r == -1 ? -errno : 0;
}

int keeper_start(const struct sys *sys, const struct keeper_where *where)
{
	char log[288], name[128], *stacks;
	struct spawn s;
	sigset_t all, old;
	int pipe_fds[2], r = 0, pid, argc = 0;

	if (pipe2(pipe_fds, O_CLOEXEC) == -1)
		return -errno;
	stacks = mmap(NULL, 2 * STACK_BYTES, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stacks == MAP_FAILED) {
		r = -errno;
		goto out;
	}
	memset(&s, 0, sizeof(s));
	s.sys = sys;
	s.command = where->command;
	s.argv[argc++] = (char *)(uintptr_t)"sockshard";
	s.argv[argc++] = (char *)(uintptr_t)"keeper";
	s.argv[argc++] = (char *)(uintptr_t)"--foreground";
	s.argv[argc++] = (char *)(uintptr_t)"--ready-fd=3";
	if (where->name) {
		(void)snprintf(name, sizeof(name), "--name=%s", where->name);
		s.argv[argc++] = name;
	}
	if (where->log) {
		(void)snprintf(log, sizeof(log), "SOCKSHARD_LOG=%s", where->log);
		s.envp[0] = log;
	}
	s.ready_fd = pipe_fds[1];
	s.stack = stacks + STACK_BYTES;
	sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	pid = clone(child, stacks + 2 * STACK_BYTES, CLONE_VM | CLONE_VFORK, &s);
	r = pid == -1 ? -errno : 0;
	if (pid > 0)
		while (waitpid(pid, NULL, __WCLONE) == -1 && errno == EINTR)
			;
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)munmap(stacks, 2 * STACK_BYTES);
	if (r == 0 && s.error)
		r = -s.error;
	sys->close(pipe_fds[1]);
	pipe_fds[1] = -1;
	if (r == 0)
		r = wait_ready(sys, pipe_fds[0]);
out:
	sys->close(pipe_fds[0]);
	if (pipe_fds[1] >= 0)
		sys->close(pipe_fds[1]);
	return r;
}

/* Signals of `sockshard run`: blocked but while it waits, so that nothing else is ever interrupted.
 * Works as process 1 too, where only signals with a handler arrive. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "run.h"

static const int handled[] = {
	SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

#define HANDLED (sizeof(handled) / sizeof(handled[0]))

static volatile sig_atomic_t arrived[HANDLED];
static sigset_t while_waiting;

static void note(int number)
{
	size_t i;

	for (i = 0; i < HANDLED; i++) {
		if (handled[i] == number)
			arrived[i] = 1;
	}
}

void run_signals_block(struct run *r)
{
	struct sigaction act, old;
	sigset_t block;
	size_t i;

	sigemptyset(&block);
	for (i = 0; i < HANDLED; i++)
		sigaddset(&block, handled[i]);
	sigprocmask(SIG_BLOCK, &block, &while_waiting);
	memset(&act, 0, sizeof(act));
	act.sa_handler = note;
	for (i = 0; i < HANDLED; i++) {
		sigdelset(&while_waiting, handled[i]);
		sigaction(handled[i], &act, &old);
		if (handled[i] == SIGHUP)
			r->hup_ignored = old.sa_handler == SIG_IGN;
	}
	act.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &act, NULL);
}

int run_signals_wait(struct pollfd *fds, unsigned n, int64_t timeout_ms)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ms / 1000),
			      .tv_nsec = (long)(timeout_ms % 1000) * 1000000};

	return ppoll(fds, n, timeout_ms == RUN_NEVER ? NULL : &ts, &while_waiting);
}

bool run_signals_take(int number)
{
	size_t i;

	for (i = 0; i < HANDLED; i++) {
		if (handled[i] == number && arrived[i]) {
			arrived[i] = 0;
			return true;
		}
	}
	return false;
}

void run_signals_default(const struct run *r)
{
	struct sigaction act;
	sigset_t none;
	int s;

	memset(&act, 0, sizeof(act));
	act.sa_handler = SIG_DFL;
	for (s = 1; s < NSIG; s++)
		sigaction(s, &act, NULL); /* KILL, STOP and libc's own fail: as they should be */
	act.sa_handler = SIG_IGN;
	if (r->hup_ignored)
		sigaction(SIGHUP, &act, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

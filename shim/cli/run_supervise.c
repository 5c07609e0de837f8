/* The loop of `sockshard run`: starts, watches, restarts and stops the copies. One thread, no busy
 * waiting. What to do about a copy that ended is run_rules.c's to say. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../util/log.h"
#include "cli.h"
#include "run.h"

#define PROGRESS_MS 10000
#define SETTLED_MS  1000 /* where no keeper tells: a copy that ran so long had come up */

static unsigned slot_of(const struct run *r, const struct copy *c)
{
	return r->first + (unsigned)(c - r->copies);
}

static void signal_copies(const struct run *r, int number)
{
	unsigned k;

	for (k = 0; k < r->n; k++) {
		if (r->copies[k].pid > 0)
			kill(r->copies[k].pid, number);
	}
}

static void stop_all(struct run *r, enum run_stop why)
{
	unsigned k;

	if (r->stop == RUN_RUNS) {
		run_keeper_stopping(r);
		signal_copies(r, r->options.stop_signal);
		r->kill_at = cli_now_ms() + r->options.grace_ms;
		for (k = 0; k < r->n; k++)
			r->copies[k].start_at = RUN_NEVER;
		r->progress_at = r->keeper_at = RUN_NEVER;
	}
	r->stop = why;
}

/* A process of this slot has ended or could not be started, before the slot ever came up. */
static void first_start_failed(struct run *r, const struct copy *c, int exit_status,
			       const char *text)
{
	cli_say("copy %u %s: stopping all", slot_of(r, c), text);
	r->status = exit_status;
	stop_all(r, RUN_STOP_FAILED);
}

static void start(struct run *r, struct copy *c)
{
	int result = run_copy_start(r, (unsigned)(c - r->copies));
	char text[128];

	if (result == 0)
		return;
	if (!c->history.ever) {
		snprintf(text, sizeof(text), "cannot be started (%s)", strerror(-result));
		first_start_failed(r, c, CLI_UNAVAILABLE, text);
		return;
	}
	c->history.failed_starts++;
	c->start_at = cli_now_ms() + run_rules_backoff(c->history.failed_starts);
	log_warn("copy %u cannot be started (%s), tried again in %d ms", slot_of(r, c),
		 strerror(-result), (int)run_rules_backoff(c->history.failed_starts));
}

static void start_again(struct run *r, struct copy *c, pid_t old, const char *text,
			int64_t delay_ms)
{
	if (delay_ms > 0) {
		c->start_at = cli_now_ms() + delay_ms;
		log_warn("copy %u (pid %d) %s before it listened, started again in %d ms",
			 slot_of(r, c), (int)old, text, (int)delay_ms);
		return;
	}
	start(r, c);
	if (c->pid > 0)
		log_warn("copy %u (pid %d) %s, started again as pid %d", slot_of(r, c), (int)old,
			 text, (int)c->pid);
}

/* A copy ended while nobody had asked it to. */
static void ended(struct run *r, struct copy *c, pid_t old, int status)
{
	char what[64], text[128];
	int64_t delay_ms = 0;

	if ((r->keeper.fd < 0 || !r->shares) && cli_now_ms() - c->started_ms >= SETTLED_MS)
		c->history.joined = c->history.ever = true;
	run_rules_text(status, what, sizeof(what));
	switch (run_rules_ended(&c->history, r->options.restart, status, &delay_ms)) {
	case RUN_AGAIN:
		start_again(r, c, old, what, delay_ms);
		break;
	case RUN_GIVE_UP:
		if (run_rules_exit(status) != 0)
			r->status = run_rules_exit(status);
		log_warn("copy %u (pid %d) %s, not started again", slot_of(r, c), (int)old, what);
		run_keeper_give_up(r, (unsigned)(c - r->copies));
		break;
	case RUN_STOP_ALL:
		snprintf(text, sizeof(text), "(pid %d) %s before it listened", (int)old, what);
		first_start_failed(r, c, run_rules_exit(status), text);
		break;
	}
}

/* Reaps everything, as process 1 has to: children we do not know were left to us. */
static void reap(struct run *r)
{
	int status;
	pid_t pid;
	unsigned k;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (k = 0; k < r->n && r->copies[k].pid != pid; k++)
			;
		if (k == r->n)
			continue;
		r->copies[k].pid = 0;
		if (r->options.prefix) {
			output_flush(&r->copies[k].output[0]);
			output_flush(&r->copies[k].output[1]);
		}
		if (r->stop == RUN_RUNS)
			ended(r, &r->copies[k], pid, status);
	}
}

static void take_signals(struct run *r)
{
	static const int passed_on[] = {SIGUSR1, SIGUSR2, SIGWINCH};
	static const struct {
		int number;
		const char *text;
	} later[] = {
		{SIGHUP, "HUP (roll)"},
		{SIGTTIN, "TTIN (scale)"},
		{SIGTTOU, "TTOU (scale)"},
	};
	int stops = run_signals_take(SIGTERM) + run_signals_take(SIGINT);
	size_t i;

	for (i = 0; i < 3; i++) {
		if (run_signals_take(passed_on[i]))
			signal_copies(r, passed_on[i]);
		if (run_signals_take(later[i].number))
			cli_say("signal %s: not in this version", later[i].text);
	}
	for (; stops > 0; stops--) {
		if (r->stop == RUN_STOP_SIGNAL) {
			r->kill_at = cli_now_ms();
			continue;
		}
		if (r->stop == RUN_RUNS)
			r->status = 0;
		stop_all(r, RUN_STOP_SIGNAL);
	}
}

static unsigned listening(const struct run *r)
{
	unsigned k, count = 0;

	for (k = 0; k < r->n; k++)
		count += r->copies[k].history.ever;
	return count;
}

static void tell_progress(struct run *r, int64_t now)
{
	unsigned count;

	if (r->all_listened || r->stop != RUN_RUNS)
		return;
	count = listening(r);
	if (count == r->n) {
		r->all_listened = true;
		r->progress_at = RUN_NEVER;
		cli_say("%u of %u copies listen after %d ms (group %s)", count, r->n,
			(int)(now - r->started_ms), r->group);
	} else if (now >= r->progress_at) {
		r->progress_at = RUN_NEVER;
		cli_say("%u of %u copies listen after %d s (group %s)", count, r->n,
			(int)((now - r->started_ms) / 1000), r->group);
	}
}

/* All that has its time. */
static void tick(struct run *r)
{
	int64_t now = cli_now_ms();
	unsigned k;

	if (now >= r->kill_at) {
		r->kill_at = RUN_NEVER;
		log_warn("what has not ended yet is killed now");
		signal_copies(r, SIGKILL);
	}
	for (k = 0; k < r->n && r->stop == RUN_RUNS; k++) {
		if (now >= r->copies[k].start_at) {
			r->copies[k].start_at = RUN_NEVER;
			start(r, &r->copies[k]);
		}
	}
	run_keeper_retry(r, now);
	if (r->registered && r->shares)
		tell_progress(r, now);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t wait_ms(const struct run *r)
{
	int64_t at = earlier(earlier(r->kill_at, r->keeper_at), r->progress_at);
	int64_t now = cli_now_ms();
	unsigned k;

	for (k = 0; k < r->n; k++)
		at = earlier(at, r->copies[k].start_at);
	if (at == RUN_NEVER)
		return RUN_NEVER;
	return at > now ? at - now : 0;
}

/* Fills the descriptors to wait for: the keeper, where our output goes, and each copy's output. */
static unsigned fill(const struct run *r, struct pollfd *fds)
{
	unsigned k, s, n = 0;

	fds[n++] = (struct pollfd){.fd = r->keeper.fd, .events = POLLIN};
	if (!r->options.prefix)
		return n;
	fds[n++] = (struct pollfd){.fd = -1, .events = POLLOUT};
	fds[n++] = (struct pollfd){.fd = -1, .events = POLLOUT};
	for (k = 0; k < r->n; k++) {
		for (s = 0; s < 2; s++) {
			const struct output *o = &r->copies[k].output[s];

			if (o->waiting)
				fds[1 + s].fd = o->to;
			fds[n++] = (struct pollfd){
				.fd = o->used < sizeof(o->line) ? o->read_fd : -1,
				.events = POLLIN,
			};
		}
	}
	return n;
}

static bool over(const struct run *r)
{
	unsigned k;

	for (k = 0; k < r->n; k++) {
		if (r->copies[k].pid > 0 || r->copies[k].start_at != RUN_NEVER)
			return false;
	}
	return true;
}

static void watch(struct run *r, struct pollfd *fds)
{
	unsigned k, s;

	while (!over(r)) {
		unsigned n = fill(r, fds);
		int ready = run_signals_wait(fds, n, wait_ms(r));

		if (ready > 0 && fds[0].revents != 0)
			run_keeper_receive(
				r); /* before reap: who had joined is told from who had not */
		for (k = 0; ready > 0 && r->options.prefix && k < r->n; k++) {
			for (s = 0; s < 2; s++) {
				if (fds[3 + 2 * k + s].revents != 0 || fds[1 + s].revents != 0)
					output_pump(&r->copies[k].output[s]);
			}
		}
		take_signals(r);
		if (run_signals_take(SIGCHLD)) {
			run_keeper_receive(r);
			reap(r);
		}
		tick(r);
	}
}

int run_supervise(struct run *r)
{
	struct pollfd *fds = calloc(3 + 2 * (size_t)r->n, sizeof(*fds));
	unsigned k;

	if (fds == NULL) {
		cli_say("run: %s", strerror(ENOMEM));
		return CLI_UNAVAILABLE;
	}
	r->started_ms = cli_now_ms();
	r->kill_at = RUN_NEVER;
	r->progress_at = r->registered && r->shares ? r->started_ms + PROGRESS_MS : RUN_NEVER;
	for (k = 0; k < r->n; k++)
		r->copies[k].start_at = RUN_NEVER;
	for (k = 0; k < r->n && r->stop == RUN_RUNS; k++)
		start(r, &r->copies[k]);
	watch(r, fds);
	if (r->stop == RUN_RUNS)
		run_keeper_stopping(r); /* nothing is left to be restarted: nothing is to be held */
	run_keeper_settle(r);
	free(fds);
	return r->status;
}

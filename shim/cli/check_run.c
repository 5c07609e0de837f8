/* See check_run.h. Two processes: one starts and watches the command, the other waits for it and
 * ends what it leaves behind, should it be killed. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_dry.h"
#include "check_net.h"
#include "check_report.h"
#include "check_run.h"
#include "check_space.h"
#include "check_start.h"
#include "check_tree.h"
#include "check_watch.h"
#include "cli.h"
#include "run_rules.h"
#include "status.h"

#define TICK_MS	  50
#define STATUS_MS 250
#define GRACE_MS  2000 /* from TERM to KILL */
#define KEEPER_MS 2000
#define LOG_MAX	  65536

struct dry_run {
	const struct check_run *how;
	struct check_dry dry;
	struct check_net_clients clients;
	struct status status; /* the keeper's answer when it had most groups */
	struct check_start_log log;
	int signals;  /* signalfd */
	int listener; /* of the filter; of the watching thread, as long as there is one */
	int quit;     /* eventfd: the thread is to end */
	pthread_t thread;
	pthread_mutex_t lock; /* of dry */
	pid_t command, keeper;
	int64_t started_ms, status_at;
	int64_t ended_ms; /* since the start; -1: the process runs */
	int wait_status;
	int stopped_by; /* a signal to us; 0: none */
};

static void block(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGCHLD);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGHUP);
	sigprocmask(SIG_BLOCK, ret, NULL);
}

static void reap(struct dry_run *d)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
		if (pid == d->keeper)
			d->keeper = 0;
		if (pid != d->command || d->ended_ms >= 0)
			continue;
		d->ended_ms = cli_now_ms() - d->started_ms;
		d->wait_status = status;
	}
}

static void take_signals(struct dry_run *d)
{
	struct signalfd_siginfo info;

	while (read(d->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			d->stopped_by = (int)info.ssi_signo;
	}
	reap(d);
}

/* Until something ends or a tick is over. */
static void pause_a_tick(struct dry_run *d)
{
	struct pollfd fd = {.fd = d->signals, .events = POLLIN};

	if (poll(&fd, 1, TICK_MS) > 0)
		take_signals(d);
}

/* The watching thread: without it no call of the command goes on. */
static void *serve(void *of)
{
	struct dry_run *d = of;
	struct pollfd fds[] = {{.fd = d->listener, .events = POLLIN},
			       {.fd = d->quit, .events = POLLIN}};

	while (poll(fds, 2, -1) >= 0 && fds[1].revents == 0) {
		if (fds[0].revents & POLLIN)
			(void)check_watch_take(d->listener, &d->dry, &d->lock);
		else if (fds[0].revents != 0)
			break; /* nobody is left who has the filter */
	}
	return NULL;
}

static int serve_start(struct dry_run *d)
{
	pthread_mutex_init(&d->lock, NULL);
	d->quit = eventfd(0, EFD_CLOEXEC);
	if (d->quit < 0)
		return -errno;
	return -pthread_create(&d->thread, NULL, serve, d);
}

static void serve_end(struct dry_run *d)
{
	if (d->listener < 0)
		return;
	(void)eventfd_write(d->quit, 1);
	(void)pthread_join(d->thread, NULL);
	close(d->quit);
	close(d->listener);
	d->listener = -1;
}

/* The keeper binds UDP sockets itself, so that nobody is seen to. The socket has no number here. */
static void note_udp(struct check_dry *d, const struct status *s)
{
	size_t i, k;

	for (i = 0; i < s->n_groups; i++) {
		const struct addr *addr = &s->groups[i].head.addr;

		for (k = 0; k < d->n_sockets && !check_dry_same(&d->sockets[k].addr, addr); k++)
			;
		if (k == d->n_sockets && addr->proto == IPPROTO_UDP && s->groups[i].n_slots > 0)
			check_dry_bind(d, (pid_t)s->groups[i].slots[0].pid, UINT64_MAX - i, addr);
	}
}

static void ask_keeper(struct dry_run *d, int64_t now)
{
	struct variables v = {0};
	struct status s = {0};

	if (now < d->status_at || d->keeper == 0)
		return;
	d->status_at = now + STATUS_MS;
	if (status_ask(&v, &s) == 0 && s.n_groups > 0 && s.n_groups >= d->status.n_groups) {
		status_free(&d->status);
		d->status = s;
		pthread_mutex_lock(&d->lock);
		note_udp(&d->dry, &s);
		pthread_mutex_unlock(&d->lock);
	} else {
		status_free(&s);
	}
}

static void look(struct dry_run *d)
{
	int64_t now = cli_now_ms();

	pthread_mutex_lock(&d->lock);
	check_net_listeners(&d->dry);
	check_net_visit(&d->clients, &d->dry, now);
	pthread_mutex_unlock(&d->lock);
	ask_keeper(d, now);
}

static bool lives(const struct dry_run *d)
{
	return check_tree_signal(0, false, d->keeper) > 0;
}

static void watch(struct dry_run *d)
{
	int64_t end = d->started_ms + d->how->seconds * 1000, look_at = 0;

	while (d->stopped_by == 0 && cli_now_ms() < end) {
		pause_a_tick(d);
		if (cli_now_ms() < look_at)
			continue;
		look(d);
		look_at = cli_now_ms() + TICK_MS;
		if (d->ended_ms >= 0 && !lives(d))
			return;
	}
}

/* TERM to what was started, KILL to all of it, then the keeper; its last words may take a while. */
static void end(struct dry_run *d)
{
	int64_t until = cli_now_ms() + GRACE_MS;

	check_net_leave(&d->clients);
	(void)check_tree_signal(SIGTERM, false, d->keeper);
	while (cli_now_ms() < until && lives(d))
		pause_a_tick(d);
	while (cli_now_ms() < until + GRACE_MS && check_tree_signal(SIGKILL, true, d->keeper) > 0)
		pause_a_tick(d);
	serve_end(d);
	if (d->keeper != 0)
		(void)kill(d->keeper, SIGTERM);
	until = cli_now_ms() + KEEPER_MS;
	while (cli_now_ms() < until && check_tree_signal(0, false, 0) > 0)
		pause_a_tick(d);
	if (!check_tree_end())
		cli_say("check --run: something of the dry run has not ended");
}

/* The report as of now; malloc'ed; NULL: no memory. */
static char *describe(struct dry_run *d, int64_t ran_ms, bool *ret_works)
{
	char *log = check_start_log_text(&d->log, LOG_MAX), *text = NULL;
	struct check_report r = {
		.dry = &d->dry,
		.policy = d->how->policy,
		.status = &d->status,
		.log = log != NULL ? log : "",
		.ran_ms = ran_ms,
		.ended = d->ended_ms >= 0,
		.ended_ms = d->ended_ms,
		.wait_status = d->wait_status,
		.daemon = d->ended_ms >= 0 && lives(d),
		.workers_shared = d->how->workers_shared,
	};
	size_t size;
	FILE *to = open_memstream(&text, &size);

	if (to != NULL) {
		pthread_mutex_lock(&d->lock);
		*ret_works = check_report(to, &r);
		pthread_mutex_unlock(&d->lock);
		if (fclose(to) != 0) {
			free(text);
			text = NULL;
		}
	}
	free(log);
	return text;
}

/* What is said is how it was before we ended it; it is said when all has ended. */
static int run(struct dry_run *d)
{
	bool works = false;
	char *text;
	int r;

	d->started_ms = cli_now_ms();
	r = check_start_command(d->how, &d->command, &d->listener);
	if (r != 0)
		return r;
	r = serve_start(d);
	if (r != 0) {
		close(d->listener);
		d->listener = -1;
		cli_say("check --run: %s", strerror(-r));
		return CLI_UNAVAILABLE;
	}
	watch(d);
	look(d);
	text = describe(d, cli_now_ms() - d->started_ms, &works);
	end(d);
	if (text == NULL || d->stopped_by != 0) {
		free(text);
		return d->stopped_by != 0 ? 128 + d->stopped_by : 1;
	}
	r = works ? 0 : CLI_UNAVAILABLE;
	if (fputs(text, stdout) == EOF || fflush(stdout) != 0)
		r = 1;
	free(text);
	return r;
}

/* The watching process. */
static int supervise(const struct check_run *how, const sigset_t *mask, pid_t parent)
{
	static struct dry_run d;
	char why[CHECK_SPACE_WHY_MAX];
	int r;

	d.how = how;
	d.ended_ms = -1;
	d.listener = -1;
	if (check_space_enter(why) != 0) {
		cli_say("check --run: %s; the command was not started", why);
		return CLI_UNAVAILABLE;
	}
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent)
		return CLI_UNAVAILABLE;
	d.signals = signalfd(-1, mask, SFD_CLOEXEC | SFD_NONBLOCK);
	r = d.signals >= 0 ? check_start_log_open(&d.log) : -errno;
	if (r == 0)
		r = check_start_keeper(how->self, &d.log, &d.keeper);
	if (r != 0) {
		cli_say("check --run: a keeper for the dry run cannot be started: %s",
			strerror(-r));
		r = CLI_UNAVAILABLE;
	} else {
		r = run(&d);
	}
	if (d.keeper != 0)
		end(&d);
	check_start_log_close(&d.log);
	status_free(&d.status);
	return r;
}

int check_run(const struct check_run *how)
{
	pid_t parent = getpid(), pid;
	int status = 0, number;
	sigset_t mask;

	(void)fflush(stdout);
	block(&mask);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	pid = fork();
	if (pid < 0) {
		cli_say("check --run: %s", strerror(errno));
		return CLI_UNAVAILABLE;
	}
	if (pid == 0)
		exit(supervise(how, &mask, parent));
	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		if (ended == pid || (ended < 0 && errno != EINTR))
			break;
		number = sigwaitinfo(&mask, NULL);
		if (number > 0 && number != SIGCHLD)
			(void)kill(pid, number);
	}
	if (!check_tree_end())
		cli_say("check --run: something of the dry run has not ended");
	return run_rules_exit(status);
}

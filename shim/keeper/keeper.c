/* The keeper's worker: one thread, one event loop. Owns the listening name and the clock; decides
 * nothing itself (conn.c, request.c, group.c, member.c). Commits after everything it has done. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../util/log.h"
#include "client.h"
#include "conn.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "handover.h"
#include "leave.h"
#include "member.h"
#include "name.h"
#include "order.h"
#include "peer.h"
#include "process.h"
#include "restore.h"
#include "review.h"
#include "snapshot.h"
#include "vault.h"
#include "stuck.h"
#include "wait.h"

#define EVENTS         64
#define INHERITED_MAX  4096
#define ACCEPT_PAUSE_MS 100
#define VAULT_PAUSE_MS 1000 /* no memory for a new one: until it is tried again */

static int64_t monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void pause_accept(struct keeper *k, int64_t until)
{
	struct epoll_event e = { .events = until ? 0 : EPOLLIN };

	k->accept_at = until ? until : NEVER;
	(void)epoll_ctl(k->epoll, EPOLL_CTL_MOD, k->listener, &e);
}

static void on_accept(struct keeper *k)
{
	int fd;

	FAULT(accept_before);
	fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	FAULT(accept_after);
	if (fd == -1) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accept(k, k->now + ACCEPT_PAUSE_MS);
		return;
	}
	if (conn_admit(k, fd) < 0)
		close(fd);
}

static bool holds_anything(const struct keeper *k)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used)
			return true;
	return false;
}

/* What is due by the clock. Returns when to look again. */
static int64_t on_time(struct keeper *k, int idle_ms)
{
	int64_t next = k->accept_at;

	for (int i = 0; i < k->conn_top; i++) {
		if (!k->conn[i].used || k->conn[i].state != CONN_NEW)
			continue;
		if (k->conn[i].hello_until <= k->now)
			conn_end(k, i);
		else if (k->conn[i].hello_until < next)
			next = k->conn[i].hello_until;
	}
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m->used && (m->watch_at <= k->now ||
		                (m->state == WIRE_ORPHAN && m->hold_until <= k->now)))
			review_member(k, i);
		if (m->used)
			(void)member_accepted(&k->members[i]);
		if (m->used && m->evict)
			leave_evict_due(k, i);
	}
	give_on_time(k);
	stuck_on_time(k);
	order_on_time(k);
	handover_on_time(k);
	for (int i = 0; i < k->group_top; i++) {
		if (k->groups[i].used && k->groups[i].list_at <= k->now) {
			(void)group_list(k, i);
			group_steer(k, i);
		}
		if (k->groups[i].used && k->groups[i].list_at < next)
			next = k->groups[i].list_at;
	}
	if (k->accept_at <= k->now)
		pause_accept(k, 0);
	if (review_next_ms(k) < next)
		next = review_next_ms(k);
	if (stuck_next_ms(k) < next)
		next = stuck_next_ms(k);
	if (handover_next_ms(k) < next)
		next = handover_next_ms(k);
	if (give_next_ms(k) < next)
		next = give_next_ms(k);
	if (order_next_ms(k) < next)
		next = order_next_ms(k);
	if (k->conns > 0 || holds_anything(k))
		k->idle_since = k->now;
	else if (k->idle_since + idle_ms <= k->now)
		k->ending = true;
	else if (k->idle_since + idle_ms < next)
		next = k->idle_since + idle_ms;
	return next;
}

/* -> true: this is the new vault. */
static bool on_vault_end(struct keeper *k)
{
	struct shared *s = k->shared;
	int r;

	if (!vault_is_over(s->vault.pidfd))
		return false;
	if (atomic_load(&s->ending)) {
		k->ending = true;
		return false;
	}
	log_warn("keeper: the vault (pid %d) is gone: making another", s->vault.pid);
	r = vault_renew(s);
	if (r == 1)
		return true;
	FAULT(vault_after);
	if (r == 0)
		r = conn_watch_fd(k, s->vault.pidfd, EVENT_VAULT, 0);
	if (r < 0) {
		log_error("keeper: no vault: %s", strerror(-r));
		k->vault_at = k->now + VAULT_PAUSE_MS;
	}
	return false;
}

/* -> true: this is the new vault. */
static bool dispatch(struct keeper *k, const struct epoll_event *e)
{
	int conn = (int)(uint32_t)e->data.u64;

	switch ((enum conn_event)(e->data.u64 >> 32)) {
	case EVENT_ACCEPT:
		on_accept(k);
		break;
	case EVENT_CONN:
		if (k->conn[conn].used && k->conn[conn].fd != NONE)
			conn_receive(k, conn);
		break;
	case EVENT_PROCESS:
		if (k->conn[conn].used && k->conn[conn].pidfd != NONE)
			conn_process_ended(k, conn);
		break;
	case EVENT_VAULT:
		return on_vault_end(k);
	}
	return false;
}

/* What is due by the clock, then events. -> true: this is the new vault. */
static bool turn(struct keeper *k, int idle_ms)
{
	struct epoll_event events[EVENTS];
	int64_t next, wait;
	int n;

	k->now = monotonic_ms();
	next = on_time(k, idle_ms);
	give_run(k);
	state_commit(k);
	if (k->vault_at <= k->now) {
		k->vault_at = NEVER;
		if (on_vault_end(k))
			return true;
	}
	if (k->vault_at < next)
		next = k->vault_at;
	if (k->ending)
		return false;
	wait = next == NEVER ? -1 : next - k->now;
	n = wait_events(k, events, EVENTS, (int)(wait > 3600000 ? 3600000 : wait));
	k->ending |= vault_terminated();
	k->now = monotonic_ms();
	for (int i = 0; i < n && !k->ending; i++) {
		k->trifle = false;
		if (dispatch(k, &events[i]))
			return true;
		give_run(k);
		if (!k->trifle)
			state_commit(k);
	}
	return false;
}

static void raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* What the program that started us left open: nobody would ever close it. */
static void close_inherited(int but)
{
	int last = but > STDERR_FILENO ? but : STDERR_FILENO;

	for (int fd = STDERR_FILENO + 1; fd < last; fd++)
		close(fd);
	if (sys_get()->close_range((unsigned)last + 1, ~0u, 0) == 0)
		return;
	for (int fd = last + 1; fd < INHERITED_MAX; fd++) /* kernels before 5.9 */
		close(fd);
}

static int set_up(struct keeper *k, const struct keeper_options *options)
{
	k->sys = sys_get();
	k->os = os_get();
	k->uid = (uint32_t)geteuid();
	k->accept_at = k->vault_at = NEVER;
	k->listener = k->diag = NONE;
	k->now = k->idle_since = monotonic_ms();
	process_service(k->service, sizeof(k->service));
	if (!(k->os->caps & OS_KEEPER))
		return -ENOTSUP;
	raise_limit();
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (k->epoll == -1)
		return -errno;
	k->listener = name_listen(k->sys, options->name, k->uid);
	if (k->listener < 0)
		return k->listener;
	state_commit(k);
	return 0;
}

static void nothing(int signal)
{
	(void)signal;
}

/* The tick that ends a blocking accept: a handler, and no SA_RESTART. */
static void signal_interrupts(int number)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = nothing;
	(void)sigaction(number, &sa, NULL);
}

static void ready(struct shared *s)
{
	int fd = s->ready_fd;

	s->ready_fd = NONE;
	if (fd >= 0)
		close(fd);
}

static int begin(struct keeper *k)
{
	int64_t accept_at = k->accept_at;
	int r;

	k->now = monotonic_ms();
	(void)listen(k->listener, NAME_BACKLOG); /* so that its credentials name a process that lives */
	restore(k);
	if (k->diag < 0)
		log_warn("keeper: the kernel lists no sockets (%s): strangers are not seen",
		         strerror(-k->diag));
	r = conn_watch_fd(k, k->listener, EVENT_ACCEPT, 0);
	if (r == 0 && k->shared->vault.pidfd != NONE)
		r = conn_watch_fd(k, k->shared->vault.pidfd, EVENT_VAULT, 0);
	if (accept_at != NEVER)
		pause_accept(k, accept_at);
	state_commit(k);
	return r;
}

/* What is held goes before the name does: who finds no keeper under it finds the ports free as well. */
static void end(struct keeper *k)
{
	atomic_store(&k->shared->ending, true);
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].fd != NONE)
			(void)close(k->members[i].fd);
	close(k->listener);
}

static enum vault_role work(struct shared *s, int idle_ms)
{
	struct keeper *k = snapshot_load(s);
	bool is_vault = false;
	int r = k ? begin(k) : -ENOMEM;

	if (r < 0) {
		log_error("keeper: %s", strerror(-r));
		return ROLE_OVER;
	}
	ready(s);
	while (!k->ending && !is_vault)
		is_vault = turn(k, idle_ms);
	if (!is_vault)
		end(k);
	else /* the one that ends keeps the pages mapped: the kernel finds them and tells their shards */
		snapshot_drop(k);
	return is_vault ? ROLE_VAULT : ROLE_OVER;
}

/* A process may be one and then, as a copy of itself, the other. */
static int run(struct shared *s, int idle_ms)
{
	enum vault_role role = vault_open(s) == 0 ? ROLE_VAULT : ROLE_WORKER;

	while (role != ROLE_OVER)
		role = role == ROLE_VAULT ? vault_watch(s) : work(s, idle_ms);
	return 0;
}

int keeper_main(const struct keeper_options *options)
{
	struct shared *s = snapshot_make();
	struct keeper *k = s ? snapshot_new(s) : NULL;
	int r;

	if (!k) {
		log_error("keeper: %s", strerror(errno));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	signal_interrupts(SIGALRM);
	vault_signals();
	close_inherited(options->ready_fd);
	s->ready_fd = options->ready_fd;
	r = set_up(k, options);
	if (r < 0)
		ready(s);
	if (r == -EEXIST)
		return 0; /* somebody was quicker */
	if (r < 0) {
		log_error("keeper: cannot start: %s", strerror(-r));
		return 69;
	}
	if (k->service[0])
		log_warn("keeper: lives and dies with %s", k->service);
	snapshot_drop(k);
#ifdef SOCKSHARD_FAULTS
	if (fault_setup())
		return 0;
#endif
	return run(s, options->idle_ms);
}

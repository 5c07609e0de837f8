/* The keeper process: one thread, one event loop. Owns the listening name, every connection and the
 * clock; decides nothing itself (request.c, group.c, member.c). */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../util/log.h"
#include "client.h"
#include "give.h"
#include "group.h"
#include "member.h"
#include "peer.h"
#include "process.h"
#include "request.h"
#include "state.h"

#define BACKLOG        128
#define EVENTS         64
#define ACCEPT_PAUSE_MS 100

/* What an epoll event is about: the upper half of its 64 bits; the lower is a connection's number. */
enum event_kind { EVENT_ACCEPT, EVENT_CONN, EVENT_PROCESS, EVENT_SIGNAL };

static struct keeper *keeper; /* one per process; too large for the stack */

static int64_t monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int watch_fd(struct keeper *k, int fd, enum event_kind kind, int conn)
{
	struct epoll_event e = { .events = EPOLLIN };

	e.data.u64 = (uint64_t)kind << 32 | (uint32_t)conn;
	return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &e) == -1 ? -errno : 0;
}

int conn_watch_process(struct keeper *k, int conn, int pidfd)
{
	int r = watch_fd(k, pidfd, EVENT_PROCESS, conn);

	if (r < 0)
		close(pidfd);
	else
		k->conn[conn].pidfd = pidfd;
	return r;
}

static void free_conn(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	int group = c->group;

	page_drop(&c->page);
	if (c->pidfd != NONE)
		close(c->pidfd);
	k->conns--;
	k->foreign -= c->foreign;
	c->used = false;
	if (group != NONE && k->groups[group].used)
		group_release_if_empty(k, group);
}

/* Something about an owner has changed; what neither connects nor lives any more is forgotten. */
static void conn_changed(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	bool owner = c->state == CONN_OWNER && c->member != NONE;
	bool over = c->fd == NONE && (c->dead || !owner);

	if (owner)
		member_review(k, c->member);
	/* A review may have released the member, and then nothing is left to wait for. */
	if (over || (c->fd == NONE && (c->state != CONN_OWNER || c->member == NONE)))
		free_conn(k, conn);
}

static void end_connection(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	bool launcher = c->n > 0;

	close(c->fd);
	c->fd = NONE;
	give_conn_ended(k, conn);
	if (c->pidfd == NONE)
		c->dead = true; /* without a pidfd the connection is all we know of the process */
	if (c->state != CONN_OWNER)
		c->dead = true;
	if (c->group != NONE)
		give_pump(k, c->group);
	conn_changed(k, conn);
	if (!launcher)
		return;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].state == WIRE_ORPHAN)
			member_review(k, i);
}

static void process_ended(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];

	close(c->pidfd);
	c->pidfd = NONE;
	c->dead = true;
	conn_changed(k, conn);
}

static void on_packet(struct keeper *k, int conn)
{
	struct conn *c = &k->conn[conn];
	struct wire_packet p;
	int r = wire_receive(k->sys, c->fd, MSG_DONTWAIT, &p);

	if (r == -EAGAIN)
		return;
	if (r == 1) {
		r = request_handle(k, conn, &p);
		wire_close_fds(k->sys, &p);
		if (r == 0)
			return;
	}
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		log_debug("connection of pid %u closed: %s (message %u, state %d)", c->pid, strerror(-r), p.head.type, (int)c->state);
	end_connection(k, conn);
}

static void pause_accept(struct keeper *k, int64_t until)
{
	struct epoll_event e = { .events = until ? 0 : EPOLLIN };

	k->accept_at = until ? until : NEVER;
	(void)epoll_ctl(k->epoll, EPOLL_CTL_MOD, k->listener, &e);
}

static int admit(struct keeper *k, int fd)
{
	uint32_t uid, pid;
	bool foreign;

	if (peer_identify(k->sys, fd, &uid, &pid) < 0)
		return -EPERM;
	foreign = !peer_is(uid, pid, k->uid);
	if (k->conns >= CONNS_MAX || (foreign && k->foreign >= FOREIGN_MAX))
		return -ENOSPC;
	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &k->conn[i];

		if (c->used)
			continue;
		memset(c, 0, sizeof(*c));
		if (watch_fd(k, fd, EVENT_CONN, i) < 0)
			return -ENOSPC;
		c->used = true;
		c->foreign = foreign;
		c->fd = fd;
		c->pidfd = c->group = c->member = NONE;
		c->uid = uid;
		c->pid = pid;
		c->hello_until = k->now + HELLO_MS;
		k->conns++;
		k->foreign += foreign;
		if (k->conn_top <= i)
			k->conn_top = i + 1;
		return 0;
	}
	return -ENOSPC;
}

static void on_accept(struct keeper *k)
{
	int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd == -1) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accept(k, k->now + ACCEPT_PAUSE_MS);
		return;
	}
	if (admit(k, fd) < 0)
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
			end_connection(k, i);
		else if (k->conn[i].hello_until < next)
			next = k->conn[i].hello_until;
	}
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m->used && (m->watch_at <= k->now ||
		                (m->state == WIRE_ORPHAN && m->hold_until <= k->now)))
			member_review(k, i);
		if (m->used)
			(void)member_accepted(&k->members[i]);
		if (m->used && m->evict)
			member_evict_due(k, i);
	}
	give_on_time(k);
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
	if (member_next_ms(k) < next)
		next = member_next_ms(k);
	if (give_next_ms(k) < next)
		next = give_next_ms(k);
	if (k->conns > 0 || holds_anything(k))
		k->idle_since = k->now;
	else if (k->idle_since + idle_ms <= k->now)
		k->ending = true;
	else if (k->idle_since + idle_ms < next)
		next = k->idle_since + idle_ms;
	return next;
}

static void dispatch(struct keeper *k, const struct epoll_event *e)
{
	int conn = (int)(uint32_t)e->data.u64;

	switch ((enum event_kind)(e->data.u64 >> 32)) {
	case EVENT_ACCEPT:
		on_accept(k);
		break;
	case EVENT_CONN:
		if (k->conn[conn].used && k->conn[conn].fd != NONE)
			on_packet(k, conn);
		break;
	case EVENT_PROCESS:
		if (k->conn[conn].used && k->conn[conn].pidfd != NONE)
			process_ended(k, conn);
		break;
	case EVENT_SIGNAL:
		k->ending = true;
		break;
	}
}

static void loop(struct keeper *k, int idle_ms)
{
	struct epoll_event events[EVENTS];

	while (!k->ending) {
		int64_t next, wait;
		int n;

		k->now = monotonic_ms();
		next = on_time(k, idle_ms);
		if (k->ending)
			return;
		wait = next == NEVER ? -1 : next - k->now;
		n = epoll_wait(k->epoll, events, EVENTS, (int)(wait > 3600000 ? 3600000 : wait));
		k->now = monotonic_ms();
		for (int i = 0; i < n; i++)
			dispatch(k, &events[i]);
	}
}

/* The first name that is free; another keeper of ours under any of them: -EEXIST. */
static int listen_by_name(struct keeper *k, const char *name)
{
	struct keeper_where where = { .name = name, .uid = k->uid };
	struct keeper_client other;
	struct sockaddr_un sun;
	int r = -EADDRINUSE;

	if (keeper_connect(k->sys, &where, WIRE_CONTROL, -1, &other) == 0) {
		close(other.fd);
		return -EEXIST;
	}
	k->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->listener == -1)
		return -errno;
	for (unsigned i = 0; i < (name ? 1 : KEEPER_NAMES); i++) {
		socklen_t len = peer_address(name, k->uid, i, &sun);

		if (bind(k->listener, (struct sockaddr *)&sun, len) == 0) {
			r = listen(k->listener, BACKLOG) == -1 ? -errno : 0;
			break;
		}
		r = -errno;
		if (errno != EADDRINUSE)
			break;
	}
	return r;
}

static int watch_signals(struct keeper *k)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd == -1 ? -errno : watch_fd(k, fd, EVENT_SIGNAL, 0);
}

static void raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int set_up(struct keeper *k, const struct keeper_options *options)
{
	int r;

	k->sys = sys_get();
	k->os = os_get();
	k->uid = (uint32_t)geteuid();
	k->accept_at = NEVER;
	k->listener = NONE;
	k->now = k->idle_since = monotonic_ms();
	process_service(k->service, sizeof(k->service));
	if (!(k->os->caps & OS_KEEPER))
		return -ENOTSUP;
	raise_limit();
	page_watch_start();
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (k->epoll == -1)
		return -errno;
	k->diag = k->os->listeners_open();
	if (k->diag < 0)
		log_warn("keeper: the kernel lists no sockets (%s): strangers are not seen",
		         strerror(-k->diag));
	r = listen_by_name(k, options->name);
	if (r == 0)
		r = watch_fd(k, k->listener, EVENT_ACCEPT, 0);
	return r < 0 ? r : watch_signals(k);
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

int keeper_main(const struct keeper_options *options)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	signal_interrupts(SIGALRM);
	keeper = mmap(NULL, sizeof(*keeper), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (keeper == MAP_FAILED) {
		log_error("keeper: %s", strerror(errno));
		return 1;
	}
	r = set_up(keeper, options);
	if (options->ready_fd >= 0)
		close(options->ready_fd);
	if (r == -EEXIST)
		return 0; /* somebody was quicker */
	if (r < 0) {
		log_error("keeper: cannot start: %s", strerror(-r));
		return 69;
	}
	if (keeper->service[0])
		log_warn("keeper: lives and dies with %s", keeper->service);
	loop(keeper, options->idle_ms);
	return 0;
}

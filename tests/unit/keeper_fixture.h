/* A real keeper in a process of its own, under a private name, and the ways to talk to it. Every
 * test ends with a keeper that still runs and has no descriptor more than at its start. */
#ifndef SOCKSHARD_TESTS_KEEPER_FIXTURE_H
#define SOCKSHARD_TESTS_KEEPER_FIXTURE_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../shim/keeper/client.h"
#include "../../shim/keeper/keeper.h"

#define PATIENCE_MS 10000
#define VIEW_MAX    16

static struct keeper_where keeper_at;
static pid_t keeper_pid;
static unsigned keeper_fds;
static struct keeper_client control; /* for look() */
static uint16_t port;		     /* free when the test began */

static inline int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline void short_pause(void)
{
	(void)poll(NULL, 0, 5);
}

/* Waits for what an event in another process will make true. */
#define await(condition)                                                                           \
	do {                                                                                       \
		int64_t end_ms_ = now_ms() + PATIENCE_MS;                                          \
		while (!(condition)) {                                                             \
			if (now_ms() > end_ms_)                                                    \
				fail_msg("%d ms without: %s", PATIENCE_MS, #condition);            \
			short_pause();                                                             \
		}                                                                                  \
	} while (0)

static inline unsigned fds_of(pid_t pid)
{
	char path[32];
	unsigned n = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* --- the keeper */

static inline pid_t fork_keeper(const char *name, int idle_ms)
{
	struct keeper_options options = {.name = name, .idle_ms = idle_ms};
	int ready[2];
	char byte;
	pid_t pid;

	assert_return_code(pipe(ready), errno);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		options.ready_fd = ready[1];
		_exit(keeper_main(&options));
	}
	assert_return_code(pid, errno);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 0); /* it listens */
	close(ready[0]);
	return pid;
}

static inline struct keeper_client connect_as(unsigned role, int pidfd)
{
	struct keeper_client c;
	int r = keeper_connect(sys_get(), &keeper_at, role, pidfd, &c);

	assert_return_code(r, -r);
	return c;
}

static inline uint16_t free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(bind(fd, (struct sockaddr *)&in, sizeof(in)), errno);
	assert_return_code(getsockname(fd, (struct sockaddr *)&in, &len), errno);
	close(fd);
	return ntohs(in.sin_port);
}

static inline int keeper_up(void **state)
{
	static char name[64];
	static unsigned count;

	(void)state;
	(void)snprintf(name, sizeof(name), "sockshard-test/%d/%u", (int)getpid(), count++);
	keeper_at = (struct keeper_where){.name = name, .uid = (uint32_t)geteuid()};
	keeper_pid = fork_keeper(name, 60000);
	keeper_fds = fds_of(keeper_pid);
	control = connect_as(WIRE_CONTROL, -1);
	port = free_port();
	return 0;
}

static inline int keeper_down(void **state)
{
	int status;

	(void)state;
	close(control.fd);
	await(fds_of(keeper_pid) == keeper_fds);
	assert_int_equal(kill(keeper_pid, SIGTERM), 0);
	assert_int_equal(waitpid(keeper_pid, &status, 0), keeper_pid);
	assert_int_equal(status, 0);
	return 0;
}

#define KEEPER_TEST(name) cmocka_unit_test_setup_teardown(name, keeper_up, keeper_down)

/* --- questions. What a reply brings is closed */

static inline int ask(struct keeper_client *c, uint16_t type, struct wire_packet *p)
{
	int r;

	p->head.type = type;
	r = keeper_ask(sys_get(), c, p);
	wire_close_fds(sys_get(), p);
	return r;
}

static inline struct addr address(uint8_t proto, const char *ip)
{
	struct addr a = {.proto = proto, .port = port};

	a.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(a.family, ip, a.ip), 1);
	a.v6only = a.family == AF_INET6 && !addr_is_wildcard(&a); /* as bind(2) makes it */
	return a;
}

static inline struct addr tcp(void)
{
	return address(IPPROTO_TCP, "127.0.0.1");
}

static inline struct wire_reserve wanted(struct addr a, const char *group)
{
	struct wire_reserve w = {.addr = a, .hold_ms = 50, .slot = WIRE_SLOT_ANY, .weight = 1};

	strcpy(w.group, group);
	return w;
}

static inline int reserve(struct keeper_client *c, const struct wire_reserve *w)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.body.reserve = *w;
	return ask(c, WIRE_RESERVE, &p);
}

/* As the preload makes it before JOIN: the option set, TCP bound. */
static inline int open_socket(const struct addr *a, bool shared)
{
	int on = 1, only = a->v6only && addr_is_wildcard(a),
	    type = a->proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
	int fd = socket(a->family, type | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);

	assert_return_code(fd, errno);
	if (shared)
		assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)),
				   errno);
	if (a->family == AF_INET6)
		assert_return_code(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)),
				   errno);
	if (a->proto == IPPROTO_TCP)
		assert_return_code(bind(fd, (struct sockaddr *)&ss, len), errno);
	return fd;
}

static inline uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == -1)
		return 1; /* no socket */
	return cookie;
}

static inline int join_with(struct keeper_client *c, const struct addr *a, int fd, uint64_t cookie,
			    struct wire_joined *ret)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.body.join.addr = *a;
	p.body.join.cookie = cookie;
	p.body.join.backlog = 64;
	p.fds[0] = fd;
	p.n_fds = fd >= 0;
	p.head.type = WIRE_JOIN;
	r = keeper_ask(sys_get(), c, &p);
	if (p.body.joined.made && p.n_fds == 1) /* mode shared: another socket for this one */
		assert_int_equal(dup2(p.fds[0], fd), fd);
	wire_close_fds(sys_get(), &p);
	if (ret)
		*ret = p.body.joined;
	return r;
}

static inline int join(struct keeper_client *c, const struct addr *a, int fd,
		       struct wire_joined *ret)
{
	return join_with(c, a, fd, cookie_of(fd), ret);
}

static inline int leave(struct keeper_client *c, uint32_t action)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.body.leave.action = action;
	return ask(c, WIRE_LEAVE, &p);
}

static inline int claim(struct keeper_client *c, const uint8_t *token, struct wire_joined *ret)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	memcpy(p.body.claim.token, token, WIRE_TOKEN);
	r = ask(c, WIRE_CLAIM, &p);
	if (ret)
		*ret = p.body.joined;
	return r;
}

/* Has the keeper ended the connection? Events that wait in it are read away. */
static inline bool is_closed(struct keeper_client *c)
{
	struct wire_packet p;
	int r = wire_receive(sys_get(), c->fd, MSG_DONTWAIT, &p);

	if (r == 1)
		wire_close_fds(sys_get(), &p);
	return r == 0 || r == -ECONNRESET;
}

/* --- a shard that is a connection of this process: without a pidfd its end is the shard's death */

struct shard_conn {
	struct keeper_client c;
	struct wire_joined joined;
	int fd;
};

static inline struct shard_conn shard_of(const struct wire_reserve *w)
{
	struct shard_conn s = {.c = connect_as(WIRE_SHARD, -1)};
	int r = reserve(&s.c, w);

	assert_return_code(r, -r);
	s.fd = open_socket(&w->addr, true);
	r = join(&s.c, &w->addr, s.fd, &s.joined);
	assert_return_code(r, -r);
	return s;
}

static inline struct shard_conn shard_up(const char *group)
{
	struct wire_reserve w = wanted(tcp(), group);

	return shard_of(&w);
}

/* As the preload closes: the socket first, then it tells. */
static inline void shard_close(struct shard_conn *s)
{
	close(s->fd);
	assert_int_equal(leave(&s->c, WIRE_CLOSED), 0);
	close(s->c.fd);
}

static inline void shard_crash(struct shard_conn *s)
{
	close(s->fd);
	close(s->c.fd);
}

/* --- a shard that is a process */

struct shard_process {
	pid_t pid;
	int orders; /* 'c': close the connection, 's': close the socket, 'f': fork a process that
		       stays, 'j': join anew, with another connection and socket,
		       'd': accept only who has sent something */
	int answers;
	struct wire_joined joined;
};

static inline struct shard_conn shard_of_process(const struct wire_reserve *w)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct shard_conn s = {.c = connect_as(WIRE_SHARD, pidfd)};

	close(pidfd);
	if (reserve(&s.c, w) < 0)
		_exit(2);
	s.fd = open_socket(&w->addr, true);
	if (join(&s.c, &w->addr, s.fd, &s.joined) < 0)
		_exit(3);
	return s;
}

static inline void shard_process_main(const struct wire_reserve *w, int orders, int answers)
{
	struct shard_conn s = shard_of_process(w);
	char order;

	if (write(answers, &s.joined, sizeof(s.joined)) != sizeof(s.joined))
		_exit(4);
	while (read(orders, &order, 1) == 1) {
		if (order == 'c')
			close(s.c.fd);
		else if (order == 's')
			close(s.fd);
		else if (order == 'j')
			s = shard_of_process(w);
		else if (order == 'd')
			setsockopt(s.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){60}, sizeof(int));
		else if (order == 'f' && fork() == 0)
			continue; /* the new process takes the orders from now on */
		else if (order == 'f')
			pause();
		if (write(answers, "", 1) != 1)
			_exit(4);
	}
	_exit(0);
}

static inline struct shard_process shard_fork(const struct wire_reserve *w)
{
	struct shard_process s;
	int orders[2], answers[2];

	assert_return_code(pipe(orders), errno);
	assert_return_code(pipe(answers), errno);
	s.pid = fork();
	if (s.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(control.fd);
		close(orders[1]);
		close(answers[0]);
		shard_process_main(w, orders[0], answers[1]);
	}
	assert_return_code(s.pid, errno);
	close(orders[0]);
	close(answers[1]);
	s.orders = orders[1];
	s.answers = answers[0];
	assert_int_equal(read(s.answers, &s.joined, sizeof(s.joined)), sizeof(s.joined));
	return s;
}

static inline void shard_order(struct shard_process *s, char order)
{
	char byte;

	assert_int_equal(write(s->orders, &order, 1), 1);
	if (order != 'f') /* the forked one does not answer: its parent waits, it takes orders */
		assert_int_equal(read(s->answers, &byte, 1), 1);
}

static inline void shard_kill(struct shard_process *s)
{
	assert_int_equal(kill(s->pid, SIGKILL), 0);
	assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
}

/* A forked one ends with its orders. */
static inline void shard_forget(struct shard_process *s)
{
	close(s->orders);
	close(s->answers);
}

/* --- what `status` shows */

struct view {
	unsigned groups, slots, strangers, launchers;
	struct wire_status_group group[VIEW_MAX];
	struct wire_status_slot slot[VIEW_MAX];
	struct wire_status_stranger stranger[VIEW_MAX];
	struct wire_status_launcher launcher[VIEW_MAX];
};

static inline struct view look(void)
{
	struct wire_packet p;
	struct view v;

	memset(&v, 0, sizeof(v));
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS;
	assert_int_equal(keeper_tell(sys_get(), &control, &p), 0);
	for (;;) {
		assert_int_equal(wire_receive(sys_get(), control.fd, 0, &p), 1);
		assert_int_equal(p.n_fds, 0);
		if (p.head.type == WIRE_STATUS)
			return v;
		if (p.head.type == WIRE_STATUS_GROUP && v.groups < VIEW_MAX)
			v.group[v.groups++] = p.body.group;
		else if (p.head.type == WIRE_STATUS_SLOT && v.slots < VIEW_MAX)
			v.slot[v.slots++] = p.body.status_slot;
		else if (p.head.type == WIRE_STATUS_STRANGER && v.strangers < VIEW_MAX)
			v.stranger[v.strangers++] = p.body.stranger;
		else if (p.head.type == WIRE_STATUS_LAUNCHER && v.launchers < VIEW_MAX)
			v.launcher[v.launchers++] = p.body.launcher;
	}
}

/* The state of the i-th held socket, by slot; WIRE_EMPTY when there is none. */
static inline unsigned state_of(unsigned i)
{
	struct view v = look();

	return i < v.slots ? v.slot[i].state : WIRE_EMPTY;
}

/* May another program have the address, without asking for sharing? */
static inline bool port_is_free(const struct addr *a)
{
	int fd = socket(a->family, a->proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	bool is_free = bind(fd, (struct sockaddr *)&ss, len) == 0;

	close(fd);
	return is_free;
}

#endif

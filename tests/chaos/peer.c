/* Bad peers of the keeper. Every command ends with 0 when the keeper did what it must.
 *   peer fuzz N SEED UID    N messages, from well-formed ones in a likely order to noise
 *   peer silent N UID       N connections that say nothing: until the keeper has closed them all
 *   peer connects N UID     N connections, one after another; every second one says HELLO
 *   peer crowd N UID        N connections at a time, then all are closed
 *   peer kinds PORT UID     JOIN with what is not the socket it should be: refused each time
 *   peer foreign UID        as another user than UID, the keeper's: refused whatever it asks
 *   peer token PORT UID     another user's process with a true token, which sends a descriptor too
 * UID: whose keeper. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/keeper/wire.h"

#define FUZZERS   16
#define ANSWER_MS 5000
#define STRANGER  1234 /* a user who is neither root nor nobody */
#define NOTHING   (-1)
#define CLOSED    (-2)

static unsigned keeper_uid;
static uint64_t chance = 1;

static const size_t sizes[WIRE_TYPES] = {
	[WIRE_HELLO] = sizeof(struct wire_hello),
	[WIRE_RESERVE] = sizeof(struct wire_reserve),
	[WIRE_JOIN] = sizeof(struct wire_join),
	[WIRE_LEAVE] = sizeof(struct wire_leave_body),
	[WIRE_CLAIM] = sizeof(struct wire_claim),
	[WIRE_CLEAN_EXIT] = sizeof(struct wire_leave_body),
	[WIRE_REGISTER] = sizeof(struct wire_register),
	[WIRE_GIVE_UP] = sizeof(struct wire_slot),
	[WIRE_ASK] = sizeof(struct wire_ask),
	[WIRE_TAKEN] = sizeof(struct wire_given),
	[WIRE_REJOIN] = sizeof(struct wire_rejoin),
	[WIRE_WAKE] = sizeof(struct wire_slot),
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int dial(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int n = snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "sockshard/%u/0", keeper_uid);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&sun,
	            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0)
		die("connect");
	return fd;
}

static int send_bytes(int fd, const void *bytes, size_t n, const int *fds, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 4)];
	} control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int tell(int fd, struct wire_packet *p)
{
	p->head.magic = WIRE_MAGIC;
	p->head.seq++;
	p->head.length = (uint16_t)(sizeof(p->head) + sizes[p->head.type]);
	return send_bytes(fd, p, p->head.length, p->fds, p->n_fds);
}

/* Descriptors that come along are closed. NOTHING, CLOSED, or bytes received. */
static ssize_t hear(int fd, struct wire_packet *ret, int ms)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 4)];
	} control;
	struct iovec iov = {.iov_base = ret, .iov_len = WIRE_MAX};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
	                     .msg_controllen = sizeof(control.bytes)};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n;

	if (poll(&p, 1, ms) < 1)
		return NOTHING;
	n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return CLOSED;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			int got;

			memcpy(&got, (char *)c + at, sizeof(got));
			close(got);
		}
	return n;
}

/* result of the answer, or 1: closed instead */
static int ask(int fd, struct wire_packet *p)
{
	ssize_t n;

	if (tell(fd, p) < 0)
		return 1;
	p->n_fds = 0;
	n = hear(fd, p, ANSWER_MS);
	if (n == NOTHING) {
		fprintf(stderr, "peer: no answer to a message of type %u\n", p->head.type);
		exit(1);
	}
	return n == CLOSED ? 1 : p->head.result;
}

static struct wire_packet packet(uint16_t type)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = type;
	return p;
}

static struct wire_packet hello(uint32_t role)
{
	struct wire_packet p = packet(WIRE_HELLO);

	p.body.hello.version_min = p.body.hello.version_max = WIRE_VERSION;
	p.body.hello.role = role;
	p.body.hello.pid = (uint32_t)getpid();
	strcpy(p.body.hello.version, "chaos");
	return p;
}

static struct wire_packet reserve(uint16_t port)
{
	struct wire_packet p = packet(WIRE_RESERVE);
	struct wire_reserve *w = &p.body.reserve;

	w->addr.proto = IPPROTO_TCP;
	w->addr.family = AF_INET;
	w->addr.port = port;
	w->addr.ip[0] = 127;
	w->addr.ip[3] = 1;
	w->hold_ms = 1000;
	w->slot = WIRE_SLOT_ANY;
	w->weight = 1;
	w->own_sharing = 1; /* its sockets are bound before they are announced */
	strcpy(w->group, "bad peers");
	return p;
}

static int greeted(uint32_t role)
{
	struct wire_packet p = hello(role);
	int fd = dial();

	if (ask(fd, &p) != 0)
		die("peer: HELLO refused");
	return fd;
}

/* --- fuzz */

static uint32_t dice(uint32_t sides)
{
	chance ^= chance << 13; /* xorshift64 */
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (uint32_t)(chance >> 32) % sides;
}

static int bound_socket(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static uint16_t some_port(void)
{
	return (uint16_t)(9000 + dice(8));
}

static void some_body(struct wire_packet *p)
{
	static const uint32_t values[] = {0, 1, 2, 3, 7, 255, 1023, 1024, 0x7fffffff, 0xffffffff};

	switch (p->head.type) {
	case WIRE_HELLO:
		*p = hello(1 + dice(4));
		break;
	case WIRE_RESERVE:
		*p = reserve(some_port());
		p->body.reserve.mode = dice(4);
		break;
	case WIRE_REJOIN:
		p->body.rejoin.addr = reserve(some_port()).body.reserve.addr;
		break;
	case WIRE_WAKE:
		p->body.slot.addr = reserve(some_port()).body.reserve.addr;
		break;
	case WIRE_REGISTER:
		strcpy(p->body.reg.group, "bad peers");
		p->body.reg.n = dice(5);
		break;
	case WIRE_LEAVE:
	case WIRE_CLEAN_EXIT:
		p->body.leave.action = dice(8);
		break;
	default:
		break;
	}
	if (dice(4) == 0 && sizes[p->head.type] >= 4) {
		size_t at = dice((uint32_t)sizes[p->head.type] / 4) * 4;

		memcpy(p->body.bytes + at, &values[dice(10)], 4);
	}
}

static void join_body(struct wire_packet *p, int *ret_socket)
{
	uint16_t port = some_port();
	socklen_t len = sizeof(p->body.join.cookie);
	int fd = bound_socket(port);

	*ret_socket = fd;
	p->body.join.addr = reserve(port).body.reserve.addr;
	p->body.join.backlog = (int32_t)dice(100);
	if (fd >= 0)
		(void)getsockopt(fd, SOL_SOCKET, SO_COOKIE, &p->body.join.cookie, &len);
}

static int one_message(int fd, const int *spare, unsigned n_spare)
{
	static uint8_t noise[2 * WIRE_MAX];
	struct wire_packet p = packet((uint16_t)(1 + dice(WIRE_TYPES - 1)));
	int fds[4], own = -1, r;
	unsigned n_fds = dice(3) ? 0 : dice(4);
	size_t n;

	some_body(&p);
	for (unsigned i = 0; i < 4; i++)
		fds[i] = spare[dice(n_spare)];
	if (p.head.type == WIRE_JOIN && dice(4)) {
		join_body(&p, &own);
		n_fds = own >= 0;
		fds[0] = own;
	}
	p.head.magic = dice(200) ? WIRE_MAGIC : dice(1000);
	p.head.seq = dice(1000);
	n = sizeof(p.head) + sizes[p.head.type];
	if (dice(20) == 0)
		n = dice(2 * WIRE_MAX);
	p.head.length = (uint16_t)(dice(100) ? n : dice(65536));
	memcpy(noise, &p, n < sizeof(p) ? n : sizeof(p));
	for (unsigned i = dice(10) ? 0 : dice(16); i > 0 && n > 0; i--)
		noise[dice((uint32_t)n)] = (uint8_t)dice(256);
	r = send_bytes(fd, noise, n, fds, n_fds);
	if (own >= 0)
		close(own);
	return r;
}

/* First messages that lead into every state; then what comes. */
static int opened(void)
{
	struct wire_packet p = hello(1 + dice(3));
	int fd = dial();

	if (dice(8) == 0)
		return fd;
	(void)tell(fd, &p);
	if (p.body.hello.role == WIRE_SHARD && dice(2)) {
		p = reserve(some_port());
		(void)tell(fd, &p);
	}
	return fd;
}

static int fuzz(unsigned long total, unsigned long seed)
{
	int fds[FUZZERS], spare[5], ends[2];
	unsigned long sent = 0, opens = 0, answers = 0;
	struct wire_packet answer;

	chance = seed * 2654435761u + 1;
	if (pipe(ends) < 0)
		die("pipe");
	spare[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	spare[1] = ends[0];
	spare[2] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	spare[3] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	spare[4] = memfd_create("bad", MFD_CLOEXEC);
	for (unsigned i = 0; i < FUZZERS; i++)
		fds[i] = -1;
	while (sent < total) {
		unsigned at = dice(FUZZERS);
		int r;

		if (fds[at] < 0) {
			fds[at] = opened();
			opens++;
		}
		r = one_message(fds[at], spare, 5);
		sent += r == 0;
		if (r == -EPIPE || dice(100) == 0) {
			close(fds[at]);
			fds[at] = -1;
			continue;
		}
		for (;;) {
			ssize_t n = hear(fds[at], &answer, 0);

			if (n == CLOSED) {
				close(fds[at]);
				fds[at] = -1;
			}
			if (n < 0)
				break;
			answers++;
		}
	}
	printf("%lu messages on %lu connections, %lu answers\n", sent, opens, answers);
	return answers == 0;
}

/* --- the others */

static void allow(unsigned long n)
{
	struct rlimit l = {n + 64, n + 64};

	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		die("setrlimit");
}

static int silent(unsigned long n)
{
	struct wire_packet p;
	int *fds = calloc(n, sizeof(*fds));

	allow(n);
	for (unsigned long i = 0; i < n; i++)
		fds[i] = dial();
	printf("open\n");
	fflush(stdout);
	for (unsigned long i = 0; i < n; i++)
		if (hear(fds[i], &p, 60000) != CLOSED)
			die("peer: a silent connection stays");
	free(fds);
	return 0;
}

static int connects(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		close(i % 2 ? greeted(WIRE_CONTROL) : dial());
	return 0;
}

static int crowd(unsigned long n)
{
	unsigned long refused = 0;
	int *fds = calloc(n, sizeof(*fds));

	allow(n);
	for (unsigned long i = 0; i < n; i++) {
		struct wire_packet p = hello(WIRE_CONTROL);

		fds[i] = dial();
		refused += ask(fds[i], &p) != 0;
	}
	printf("%lu of %lu refused\n", refused, n);
	for (unsigned long i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
	return 0;
}

static int refused(const char *what, int r)
{
	printf("%s: %s\n", what, r == 1 ? "closed" : r < 0 ? strerror(-r) : "accepted");
	return r == 0;
}

static int join_with(const char *what, uint16_t port, int fd, uint64_t cookie, unsigned n_fds)
{
	struct wire_packet p = reserve(port);
	int to = greeted(WIRE_SHARD), r;

	if (ask(to, &p) != 0)
		die("peer: RESERVE refused");
	p = packet(WIRE_JOIN);
	p.body.join.addr = reserve(port).body.reserve.addr;
	p.body.join.backlog = 16;
	p.body.join.cookie = cookie;
	p.fds[0] = p.fds[1] = fd;
	p.n_fds = n_fds;
	r = refused(what, ask(to, &p));
	close(to);
	if (fd >= 0)
		close(fd);
	return r;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	(void)getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

static int kinds(uint16_t port)
{
	int bad = 0, ends[2], fd;

	if (pipe(ends) < 0)
		die("pipe");
	bad += join_with("a file", port, open("/dev/null", O_RDWR), 0, 1);
	bad += join_with("a pipe", port, ends[0], 0, 1);
	bad += join_with("a memfd", port, memfd_create("bad", 0), 0, 1);
	bad += join_with("a pidfd", port, (int)syscall(SYS_pidfd_open, getpid(), 0), 0, 1);
	bad += join_with("a connection to the keeper", port, dial(), 0, 1);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bad += join_with("a unix socket", port, fd, cookie_of(fd), 1);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	bad += join_with("a datagram socket", port, fd, cookie_of(fd), 1);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	bad += join_with("an IPv6 socket", port, fd, cookie_of(fd), 1);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	bad += join_with("a socket without the option", port, fd, cookie_of(fd), 1);
	fd = bound_socket((uint16_t)(port + 1));
	bad += join_with("a socket of another port", port, fd, cookie_of(fd), 1);
	fd = bound_socket(port);
	bad += join_with("a wrong cookie", port, fd, cookie_of(fd) + 1, 1);
	fd = bound_socket(port);
	bad += join_with("two descriptors", port, fd, cookie_of(fd), 2);
	bad += join_with("no descriptor", port, -1, 0, 0);
	return bad;
}

static int foreign(void)
{
	static const uint16_t types[] = {WIRE_RESERVE, WIRE_JOIN, WIRE_REGISTER, WIRE_STATUS,
	                                 WIRE_STOPPING, WIRE_OWN_PROGRAM, WIRE_ASK, WIRE_TAKEN,
	                                 WIRE_CLAIM};
	struct wire_packet p;
	int bad = 0;

	if (setgid(STRANGER) < 0 || setuid(STRANGER) < 0)
		die("setuid");
	for (uint32_t role = WIRE_LAUNCHER; role <= WIRE_CONTROL; role++) {
		p = hello(role);
		bad += refused("HELLO as no shard", ask(dial(), &p));
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		char what[32];
		int fd = greeted(WIRE_SHARD);

		p = types[i] == WIRE_RESERVE ? reserve(9100) : packet(types[i]);
		snprintf(what, sizeof(what), "type %u", types[i]);
		bad += refused(what, ask(fd, &p));
		close(fd);
	}
	return bad;
}

static int claims_with_descriptor(const uint8_t token[WIRE_TOKEN])
{
	struct wire_packet p = packet(WIRE_CLAIM);
	int fd, r, bad = 0;

	if (setgid(STRANGER) < 0 || setuid(STRANGER) < 0)
		die("setuid");
	fd = greeted(WIRE_SHARD);
	memcpy(p.body.claim.token, token, WIRE_TOKEN);
	p.fds[0] = open("/dev/null", O_RDWR);
	p.n_fds = 1;
	bad += refused("CLAIM with a descriptor", ask(fd, &p));
	fd = greeted(WIRE_SHARD);
	p = packet(WIRE_CLAIM);
	memcpy(p.body.claim.token, token, WIRE_TOKEN);
	r = ask(fd, &p);
	printf("CLAIM: %s\n", r == 0 ? "accepted" : "refused");
	bad += r != 0;
	p = packet(WIRE_DEAF); /* a worker of another user that installs a filter */
	r = ask(fd, &p);
	printf("DEAF: %s\n", r == 0 ? "accepted" : "refused");
	bad += r != 0;
	p = packet(WIRE_ASK);
	p.fds[0] = open("/dev/null", O_RDWR);
	p.n_fds = 1;
	bad += refused("ASK with a descriptor", ask(fd, &p));
	return bad;
}

static int token(uint16_t port)
{
	struct wire_packet p = reserve(port);
	int to = greeted(WIRE_SHARD), fd = bound_socket(port), status;
	pid_t child;

	if (fd < 0 || ask(to, &p) != 0)
		die("peer: RESERVE refused");
	p = packet(WIRE_JOIN);
	p.body.join.addr = reserve(port).body.reserve.addr;
	p.body.join.backlog = 16;
	p.body.join.cookie = cookie_of(fd);
	p.fds[0] = fd;
	p.n_fds = 1;
	if (ask(to, &p) != 0)
		die("peer: JOIN refused");
	fflush(stdout);
	child = fork();
	if (child == 0) {
		status = claims_with_descriptor(p.body.joined.token);
		fflush(stdout);
		_exit(status);
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	signal(SIGPIPE, SIG_IGN);
	keeper_uid = argc > 2 ? (unsigned)strtoul(argv[argc - 1], NULL, 10) : 0;
	if (strcmp(what, "fuzz") == 0 && argc == 5)
		return fuzz(n, strtoul(argv[3], NULL, 10));
	if (strcmp(what, "silent") == 0)
		return silent(n);
	if (strcmp(what, "connects") == 0)
		return connects(n);
	if (strcmp(what, "crowd") == 0)
		return crowd(n);
	if (strcmp(what, "kinds") == 0)
		return kinds((uint16_t)n) != 0;
	if (strcmp(what, "foreign") == 0)
		return foreign() != 0;
	if (strcmp(what, "token") == 0)
		return token((uint16_t)n) != 0;
	fprintf(stderr, "peer: the head of peer.c says how\n");
	return 2;
}

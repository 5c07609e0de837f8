/* Measures what the running kernel does, on scratch groups of three sockets on loopback. Never
 * touches a port that the kernel did not give it, leaves nothing open, ends within a second. */
#include "os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PROBE_MEMBERS	 3
#define PROBE_TRIES	 60
#define PROBE_STEERED	 3 /* connections for each member while a program chooses it */
#define PROBE_BUDGET_MS	 800
#define PROBE_ARRIVAL_MS 200

struct probe {
	const struct sys *sys;
	const struct os *os;
	struct addr addr;
	int fd[PROBE_MEMBERS];
	int64_t deadline_ms;
	char *why;
};

static int64_t probe_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Writes a reason unless there is one, and returns -ENOTSUP: what was measured says no. */
static int probe_why(struct probe *p, const char *what, int r)
{
	if (!p->why[0]) {
		snprintf(p->why, OS_WHY_MAX, "%s over %s: %s%s%s",
			 p->addr.proto == IPPROTO_TCP ? "TCP" : "UDP",
			 p->addr.family == AF_INET ? "IPv4" : "IPv6", what, r ? ": " : "",
			 r ? strerror(-r) : "");
	}
	return -ENOTSUP;
}

/* Out of something: nothing was learnt about the kernel. */
static bool probe_is_shortage(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS;
}

static int probe_fail(struct probe *p, const char *what, int r)
{
	return probe_is_shortage(r) ? r : probe_why(p, what, r);
}

static int probe_socket(const struct probe *p)
{
	const int type = p->addr.proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
	int fd;

#if defined(SOCK_CLOEXEC) && defined(SOCK_NONBLOCK)
	fd = p->sys->socket(p->addr.family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
#else /* macOS */
	fd = p->sys->socket(p->addr.family, type, 0);
	if (fd < 0)
		return -errno;
	p->sys->fcntl(fd, F_SETFD, FD_CLOEXEC);
	p->sys->fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
#endif
}

static int probe_port(const struct probe *p, int fd, uint16_t *ret_port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr a;
	int r;

	if (p->sys->getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	r = addr_from_sockaddr((const struct sockaddr *)&ss, len, &a);
	if (r < 0)
		return r;
	*ret_port = a.port;
	return 0;
}

/* One member more; the first takes whatever port the kernel gives. The caller closes p->fd[i]. */
static int probe_join(struct probe *p, size_t i)
{
	struct sockaddr_storage ss;
	char why[OS_WHY_MAX] = "";
	socklen_t len;
	int r;

	r = probe_socket(p);
	if (r == -EAFNOSUPPORT && p->addr.family == AF_INET6)
		return -ENOTSUP; /* no IPv6 in this kernel: nothing to say */
	if (r < 0)
		return probe_fail(p, "socket()", r);
	p->fd[i] = r;
	r = p->os->share(p->sys, p->fd[i], &p->addr, why);
	if (r < 0)
		return why[0] ? probe_why(p, why, 0) : probe_fail(p, "the sharing option", r);
	len = addr_to_sockaddr(&p->addr, &ss);
	if (p->sys->bind(p->fd[i], (const struct sockaddr *)&ss, len) < 0) {
		if (i == 0 && p->addr.family == AF_INET6 && errno == EADDRNOTAVAIL)
			return -ENOTSUP; /* no IPv6 on loopback: nothing to say */
		return probe_fail(p, i ? "no second socket on the port, bind()" : "bind()", -errno);
	}
	if (p->addr.proto == IPPROTO_TCP && p->sys->listen(p->fd[i], PROBE_TRIES) < 0)
		return probe_fail(p, "listen()", -errno);
	if (i == 0) {
		r = probe_port(p, p->fd[0], &p->addr.port);
		if (r < 0)
			return probe_fail(p, "getsockname()", r);
	}
	return 0;
}

/* Takes what waits at a member; returns 1 when it came from source_port, 0 when not. */
static int probe_take(const struct probe *p, size_t i, uint16_t source_port)
{
	struct sockaddr_storage ss;
	struct addr from;
	socklen_t len = sizeof(ss);
	char byte;

	memset(&ss, 0, sizeof(ss));
	if (p->addr.proto == IPPROTO_TCP) {
#ifdef SOCK_CLOEXEC
		int fd = p->sys->accept4(p->fd[i], (struct sockaddr *)&ss, &len, SOCK_CLOEXEC);
#else
		int fd = p->sys->accept(p->fd[i], (struct sockaddr *)&ss, &len);
#endif
		if (fd < 0)
			return 0;
		p->sys->close(fd);
	} else {
		struct iovec iov = {.iov_base = &byte, .iov_len = 1};
		struct msghdr msg = {
			.msg_name = &ss, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1};

		if (p->sys->recvmsg(p->fd[i], &msg, 0) < 0)
			return 0;
		len = msg.msg_namelen;
	}
	return addr_from_sockaddr((const struct sockaddr *)&ss, len, &from) == 0 &&
	       from.port == source_port;
}

/* Which member gets what came from source_port: its number, or -ENOTSUP and why. */
static int probe_arrival(struct probe *p, uint16_t source_port)
{
	struct pollfd pfd[PROBE_MEMBERS];
	const int64_t now_ms = probe_now_ms();
	const int64_t arrival_ms = now_ms + PROBE_ARRIVAL_MS;
	const int64_t end_ms = arrival_ms < p->deadline_ms ? arrival_ms : p->deadline_ms;
	int64_t left_ms;

	for (left_ms = end_ms - now_ms; left_ms > 0; left_ms = end_ms - probe_now_ms()) {
		for (size_t i = 0; i < PROBE_MEMBERS; i++)
			pfd[i] = (struct pollfd){.fd = p->fd[i], .events = POLLIN};
		if (p->sys->poll(pfd, PROBE_MEMBERS, (int)left_ms) <= 0)
			continue;
		for (size_t i = 0; i < PROBE_MEMBERS; i++) {
			if (pfd[i].revents && probe_take(p, i, source_port))
				return (int)i;
		}
	}
	if (probe_now_ms() >= p->deadline_ms)
		return probe_why(p, "not measured to the end within 0.8 s", 0);
	return probe_why(p, "what is sent to loopback does not arrive (a packet filter?)", 0);
}

static int probe_send(struct probe *p, int fd)
{
	/* closing resets: no TIME_WAIT is left on the port */
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct sockaddr_storage ss;
	char byte = 0;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_name = &ss, .msg_iov = &iov, .msg_iovlen = 1};
	const socklen_t len = addr_to_sockaddr(&p->addr, &ss);
	int r = 0;

	if (p->addr.proto == IPPROTO_TCP) {
		p->sys->setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		if (p->sys->connect(fd, (const struct sockaddr *)&ss, len) < 0 &&
		    errno != EINPROGRESS)
			r = -errno;
	} else {
		msg.msg_namelen = len;
		if (p->sys->sendmsg(fd, &msg, 0) < 0)
			r = -errno;
	}
	if (r == -ENETUNREACH || r == -ENETDOWN)
		return probe_why(p, "the loopback interface is down (ip link set lo up)", 0);
	return r < 0 ? probe_fail(p, "connect()", r) : 0;
}

/* One connection or datagram; returns the member that got it, -ENOTSUP and why, or -errno. */
static int probe_once(struct probe *p)
{
	uint16_t port = 0;
	int fd, r;

	fd = probe_socket(p);
	if (fd < 0)
		return probe_fail(p, "socket()", fd);
	r = probe_send(p, fd);
	if (r == 0)
		r = probe_port(p, fd, &port);
	if (r == 0)
		r = probe_arrival(p, port);
	p->sys->close(fd);
	return r;
}

static int probe_balance(struct probe *p, unsigned shares[PROBE_MEMBERS])
{
	int r;

	for (int i = 0; i < PROBE_TRIES; i++) {
		r = probe_once(p);
		if (r < 0)
			return r;
		shares[r]++;
	}
	/* by chance one of three gets none of 60 once in ten thousand million times */
	for (size_t i = 0; i < PROBE_MEMBERS; i++) {
		if (shares[i] == 0)
			return probe_why(p, "the kernel does not balance the listeners", 0);
	}
	return 0;
}

static int probe_steer(struct probe *p)
{
	/* "return k", in the layout that classic BPF has everywhere: code, jt, jf, k */
	struct {
		uint16_t code;
		uint8_t jt, jf;
		uint32_t k;
	} program = {.code = 0x06}; /* BPF_RET | BPF_K */
	int r = 0;

	for (uint32_t k = 0; k < PROBE_MEMBERS && r == 0; k++) {
		program.k = k;
		r = p->os->attach(p->sys, p->fd[0], &program, 1);
		if (r < 0)
			return probe_fail(p, "the kernel takes no program for the group", r);
		for (int i = 0; i < PROBE_STEERED && r == 0; i++) {
			r = probe_once(p);
			if (r >= 0)
				r = r == (int)k
					    ? 0
					    : probe_why(p, "the kernel does not obey the program",
							0);
		}
	}
	p->os->attach(p->sys, p->fd[0], NULL, 0);
	return r;
}

/* Does the kernel list this one, and nobody else? */
static bool probe_lists(const struct probe *p, uint64_t cookie)
{
	struct os_listener found[2];
	int fd, n;

	fd = p->os->listeners_open();
	if (fd < 0)
		return false;
	n = p->os->listeners(fd, p->addr.proto, p->addr.port, found,
			     sizeof(found) / sizeof(found[0]));
	p->sys->close(fd);
	return n == 1 && found[0].cookie == cookie;
}

/* What does not depend on sharing, on an ordinary listener: the keeper tells sockets apart by their
 * cookies. Nothing is said when it cannot be had: the groups will. */
static unsigned probe_single(struct probe *p)
{
	struct sockaddr_storage ss;
	const socklen_t len = addr_to_sockaddr(&p->addr, &ss);
	const int fd = probe_socket(p);
	unsigned caps = 0;
	uint64_t cookie;

	if (fd < 0)
		return 0;
	if (p->os->cookie(p->sys, fd, &cookie) == 0) {
		caps |= p->os->caps & OS_KEEPER;
		if ((p->os->caps & OS_LISTENERS) &&
		    p->sys->bind(fd, (const struct sockaddr *)&ss, len) == 0 &&
		    p->sys->listen(fd, 1) == 0 && probe_port(p, fd, &p->addr.port) == 0 &&
		    probe_lists(p, cookie))
			caps |= OS_LISTENERS;
	}
	p->sys->close(fd);
	return caps;
}

/* One group of three sockets. Adds to *caps what was seen to work, bit when it balances. Returns 0
 * when all of it works that the backend knows; -ENOTSUP and why; -errno. */
static int probe_group(struct probe *p, unsigned *caps, unsigned bit,
		       unsigned shares[PROBE_MEMBERS])
{
	int r = 0;

	for (size_t i = 0; i < PROBE_MEMBERS; i++)
		p->fd[i] = -1;
	p->addr.port = 0;
	for (size_t i = 0; i < PROBE_MEMBERS && r == 0; i++)
		r = probe_join(p, i);
	if (r == 0)
		r = probe_balance(p, shares);
	if (r == 0) {
		*caps |= bit;
		if (p->os->caps & OS_STEER)
			r = probe_steer(p);
	}
	for (size_t i = 0; i < PROBE_MEMBERS; i++) {
		if (p->fd[i] >= 0)
			p->sys->close(p->fd[i]);
	}
	return r;
}

int os_try(const struct sys *sys, const struct os *os, const struct addr *addr,
	   char why[OS_WHY_MAX])
{
	struct probe p = {.sys = sys, .os = os, .addr = *addr};
	int r = os_refuse(os, addr, why), fd;

	if (r < 0)
		return r;
	fd = probe_socket(&p);
	if (fd < 0)
		return 0;
	r = os->share(sys, fd, addr, why);
	sys->close(fd);
	return r == -ENOTSUP ? r : 0;
}

int os_probe(const struct sys *sys, const struct os *os, struct os_probe *ret_probe)
{
	static const struct {
		uint8_t proto, family;
		unsigned bit;
	} group[] = {
		{IPPROTO_TCP, AF_INET, OS_BALANCE_TCP},
		{IPPROTO_UDP, AF_INET, OS_BALANCE_UDP},
		{IPPROTO_TCP, AF_INET6, OS_BALANCE_IPV6},
	};
	const uint32_t loopback = htonl(INADDR_LOOPBACK);
	struct os_probe found = {0};
	struct probe p = {.sys = sys, .os = os, .why = found.why};
	bool steered = (os->caps & OS_STEER) != 0;
	int r;

	if (!(os->caps & (OS_BALANCE_TCP | OS_BALANCE_UDP)))
		snprintf(found.why, sizeof(found.why), "%s: %s", os->name, os->no_balance);
	p.deadline_ms = probe_now_ms() + PROBE_BUDGET_MS;
	for (size_t i = 0; i < sizeof(group) / sizeof(group[0]); i++) {
		unsigned shares[PROBE_MEMBERS] = {0};

		if (!(os->caps & group[i].bit))
			continue;
		p.addr = (struct addr){.proto = group[i].proto, .family = group[i].family};
		if (group[i].family == AF_INET)
			memcpy(p.addr.ip, &loopback, sizeof(loopback));
		else
			p.addr.ip[15] = 1; /* ::1 */
		if (i == 0)
			found.caps |= probe_single(&p);
		r = probe_group(&p, &found.caps, group[i].bit, shares);
		if (r < 0 && r != -ENOTSUP)
			return r;
		if (r < 0 && (found.caps & group[i].bit))
			steered = false; /* balanced here, but not steered */
		if (i == 0)
			memcpy(found.shares, shares, sizeof(shares));
	}
	if (steered && (found.caps & (OS_BALANCE_TCP | OS_BALANCE_UDP)))
		found.caps |= OS_STEER | (os->caps & OS_HANDOVER);
	*ret_probe = found;
	return 0;
}

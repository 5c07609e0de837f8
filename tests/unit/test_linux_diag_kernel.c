/* What sock_diag lists, on the kernel that runs the tests, in a network namespace of its own. */
#include "../../shim/os/linux_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT 8080
#define MANY 700 /* more than one buffer holds */

enum { NAMESPACE_REFUSED = 77 };

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			dprintf(2, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #what, errno);    \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void set_loopback_up(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0);
	ifr.ifr_flags |= IFF_UP;
	CHECK(ioctl(fd, SIOCSIFFLAGS, &ifr) == 0);
	close(fd);
}

/* Runs body in a child in a namespace of its own. */
static void in_namespace(void (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			_exit(NAMESPACE_REFUSED);
		set_loopback_up();
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NAMESPACE_REFUSED) {
		print_message("  not allowed: a network namespace\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int bound(int family, int type, const char *ip, bool v6only)
{
	const int on = 1, only = v6only;
	struct sockaddr_storage ss = {.ss_family = (sa_family_t)family};
	socklen_t len;
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0);
	if (family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

		CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) == 0);
		in6->sin6_port = htons(PORT);
		CHECK(inet_pton(AF_INET6, ip, &in6->sin6_addr) == 1);
		len = sizeof(*in6);
	} else {
		struct sockaddr_in *in = (struct sockaddr_in *)&ss;

		in->sin_port = htons(PORT);
		CHECK(inet_pton(AF_INET, ip, &in->sin_addr) == 1);
		len = sizeof(*in);
	}
	CHECK(bind(fd, (const struct sockaddr *)&ss, len) == 0);
	if (type == SOCK_STREAM)
		CHECK(listen(fd, 5) == 0);
	return fd;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	CHECK(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0);
	return cookie;
}

static const struct os_listener *entry_of(const struct os_listener *list, int n, int fd)
{
	const uint64_t cookie = cookie_of(fd);

	for (int i = 0; i < n; i++) {
		if (list[i].cookie == cookie)
			return &list[i];
	}
	return NULL;
}

static int connected_udp(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	int fd = bound(AF_INET, SOCK_DGRAM, "127.0.0.1", false);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0);
	return fd;
}

static void tcp_body(void)
{
	const int any4 = bound(AF_INET, SOCK_STREAM, "0.0.0.0", false);
	const int one4 = bound(AF_INET, SOCK_STREAM, "127.0.0.1", false);
	const int only6 = bound(AF_INET6, SOCK_STREAM, "::1", true);
	const int dual6 = bound(AF_INET6, SOCK_STREAM, "::", false);
	const struct os_listener *e;
	struct os_listener list[16];
	int diag = linux_diag_open();
	int n;

	bound(AF_INET, SOCK_DGRAM, "0.0.0.0", false); /* not asked for */
	CHECK(diag >= 0);
	CHECK(fcntl(diag, F_GETFD) & FD_CLOEXEC);
	n = linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, 16);
	CHECK(n == 4);
	e = entry_of(list, n, any4);
	CHECK(e && e->addr.family == AF_INET && addr_is_wildcard(&e->addr));
	CHECK(e->addr.port == PORT && e->uid == getuid() && e->inode != 0);
	e = entry_of(list, n, one4);
	CHECK(e && memcmp(e->addr.ip, "\x7f\0\0\1", 4) == 0);
	e = entry_of(list, n, only6);
	CHECK(e && e->addr.family == AF_INET6 && e->addr.v6only == 1 && e->addr.ip[15] == 1);
	e = entry_of(list, n, dual6);
	CHECK(e && e->addr.v6only == 0 && addr_is_wildcard(&e->addr));
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT + 1, list, 16) == 0);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, 3) == -E2BIG);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, 1) == -E2BIG);
	close(one4);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, 16) == 3);
}

static void the_kernel_lists_tcp_listeners_of_both_families(void **state)
{
	(void)state;
	in_namespace(tcp_body);
}

static void udp_body(void)
{
	const int a = bound(AF_INET, SOCK_DGRAM, "127.0.0.1", false);
	const int b = bound(AF_INET6, SOCK_DGRAM, "::1", true);
	const int c = connected_udp();
	struct os_listener list[16];
	int diag = linux_diag_open();
	int n = linux_diag_listeners(diag, IPPROTO_UDP, PORT, list, 16);

	CHECK(n == 2);
	CHECK(entry_of(list, n, a) && entry_of(list, n, b) && !entry_of(list, n, c));
	CHECK(entry_of(list, n, b)->addr.v6only == 1);
	CHECK(entry_of(list, n, b)->addr.proto == IPPROTO_UDP);
}

static void the_kernel_lists_unconnected_udp_sockets(void **state)
{
	(void)state;
	in_namespace(udp_body);
}

static void device_body(void)
{
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct os_listener list[2];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int diag = linux_diag_open();

	CHECK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
	CHECK(bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, 5) == 0);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, 2) == 1);
	CHECK(list[0].addr.ifindex == if_nametoindex("lo"));
}

static void a_bound_device_is_told(void **state)
{
	(void)state;
	in_namespace(device_body);
}

static void many_body(void)
{
	static struct os_listener list[MANY + 1];
	int diag = linux_diag_open();
	int fd[MANY];

	for (int i = 0; i < MANY; i++)
		fd[i] = bound(AF_INET, SOCK_STREAM, "127.0.0.1", false);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, MANY + 1) == MANY);
	for (int i = 0; i < MANY; i++)
		CHECK(entry_of(list, MANY, fd[i]));
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, MANY - 1) == -E2BIG);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, MANY) == MANY);
}

static void a_dump_of_several_buffers_is_complete(void **state)
{
	(void)state;
	in_namespace(many_body);
}

static void begin_a_dump_and_read_nothing(int diag)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} m = {.h = {.nlmsg_len = sizeof(m),
		     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
	       .req = {.sdiag_family = AF_INET,
		       .sdiag_protocol = IPPROTO_TCP,
		       .idiag_states = ~0u}};

	CHECK(send(diag, &m, sizeof(m), 0) == (ssize_t)sizeof(m));
}

static void stale_body(void)
{
	static struct os_listener list[MANY];
	int diag = linux_diag_open();

	for (int i = 0; i < MANY; i++)
		bound(AF_INET, SOCK_STREAM, "127.0.0.1", false);
	begin_a_dump_and_read_nothing(diag);
	CHECK(linux_diag_listeners(diag, IPPROTO_TCP, PORT, list, MANY) == MANY);
}

static void a_dump_that_was_given_up_does_not_spoil_the_next(void **state)
{
	(void)state;
	in_namespace(stale_body);
}

static void port_0_and_other_protocols_are_refused(void **state)
{
	struct os_listener list[1];

	(void)state;
	assert_int_equal(linux_diag_listeners(-1, IPPROTO_TCP, 0, list, 1), -EINVAL);
	assert_int_equal(linux_diag_listeners(-1, IPPROTO_SCTP, PORT, list, 1), -EINVAL);
	assert_int_equal(linux_diag_listeners(-1, IPPROTO_TCP, PORT, list, 1), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_lists_tcp_listeners_of_both_families),
		cmocka_unit_test(the_kernel_lists_unconnected_udp_sockets),
		cmocka_unit_test(a_bound_device_is_told),
		cmocka_unit_test(a_dump_of_several_buffers_is_complete),
		cmocka_unit_test(a_dump_that_was_given_up_does_not_spoil_the_next),
		cmocka_unit_test(port_0_and_other_protocols_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Every system's choice of options and every refusal, through the fake of the system's calls; the
 * probe on the kernel that runs the test, in a network namespace of its own. */
#include "../../shim/os/os.h"
#include "../support/fake_sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
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
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define FREEBSD_REUSEPORT    0x0200
#define FREEBSD_REUSEPORT_LB 0x10000
#define BSD_REUSEPORT	     0x0200

enum { NAMESPACE_REFUSED = 77 };

static const struct os *const every_os[] = {&os_linux,	 &os_freebsd, &os_dragonfly,  &os_netbsd,
					    &os_openbsd, &os_darwin,  &os_unsupported};

static const struct sys real = {
	.socket = socket,
	.bind = bind,
	.listen = listen,
	.accept = accept,
	.accept4 = accept4,
	.connect = connect,
	.close = close,
	.fcntl = fcntl,
	.setsockopt = setsockopt,
	.getsockopt = getsockopt,
	.getsockname = getsockname,
	.sendmsg = sendmsg,
	.recvmsg = recvmsg,
	.poll = poll,
};

static int reset(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

static struct addr address(uint8_t proto, const char *text, uint8_t v6only)
{
	struct addr a = {.proto = proto, .port = 8080, .v6only = v6only};

	a.family = strchr(text, ':') ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(a.family, text, a.ip), 1);
	return a;
}

static void option_was(unsigned i, int name, int value)
{
	assert_in_range(i, 0, fake_n_options - 1);
	assert_int_equal(fake_options[i].level, SOL_SOCKET);
	assert_int_equal(fake_options[i].name, name);
	assert_int_equal(fake_options[i].value, value);
	assert_int_equal(fake_options[i].len, sizeof(int));
}

static void linux_tcp_gets_both_options(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);
	char why[OS_WHY_MAX];

	(void)state;
	fake_will_set(SO_REUSEPORT, 0);
	fake_will_set(SO_REUSEADDR, 0);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), 0);
	option_was(0, SO_REUSEPORT, 1);
	option_was(1, SO_REUSEADDR, 1);
	assert_int_equal(fake_options[0].fd, 7);
}

static void linux_udp_never_gets_reuseaddr(void **state)
{
	const struct addr a = address(IPPROTO_UDP, "0.0.0.0", 0);
	char why[OS_WHY_MAX];

	(void)state;
	fake_will_set(SO_REUSEPORT, 0);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), 0);
	fake_will_set(SO_REUSEPORT, 0);
	os_linux.unshare(&fake, 7, &a, false, false);
	assert_int_equal(fake_n_options, 2);
	option_was(1, SO_REUSEPORT, 0);
}

static void linux_without_the_option_says_so_and_changes_nothing(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);
	char why[OS_WHY_MAX] = "";

	(void)state;
	fake_will_set(SO_REUSEPORT, ENOPROTOOPT);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, "no SO_REUSEPORT here: Linux 3.9 or newer can balance");
	fake_will_set(SO_REUSEPORT, EOPNOTSUPP);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, "the kernel refuses SO_REUSEPORT on this kind of socket");
	fake_will_set(SO_REUSEPORT, EBADF);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), -EBADF);
}

static void linux_balances_ipv6_and_dual_stack(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "::", 0);
	char why[OS_WHY_MAX];

	(void)state;
	assert_int_equal(os_refuse(&os_linux, &a, why), 0);
}

static void linux_unshare_leaves_what_the_server_had_set(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);

	(void)state;
	os_linux.unshare(&fake, 7, &a, true, true);
	assert_int_equal(fake_n_options, 0);
	fake_will_set(SO_REUSEPORT, 0);
	os_linux.unshare(&fake, 7, &a, false, true);
	option_was(0, SO_REUSEPORT, 0);
	fake_will_set(SO_REUSEADDR, 0);
	os_linux.unshare(&fake, 7, &a, true, false);
	option_was(1, SO_REUSEADDR, 0);
}

static void linux_attaches_the_program_it_is_given(void **state)
{
	const struct sock_filter program[2] = {{.code = 6, .k = 1}, {.code = 6, .k = 0}};

	(void)state;
	fake_will_set(SO_ATTACH_REUSEPORT_CBPF, 0);
	assert_int_equal(os_linux.attach(&fake, 7, program, 2), 0);
	assert_int_equal(fake_options[0].len, sizeof(struct sock_fprog));
	assert_int_equal(fake_options[0].program.len, 2);
	assert_ptr_equal(fake_options[0].program.filter, program);
}

static void linux_attach_refuses_a_length_that_would_be_cut(void **state)
{
	const struct sock_filter program = {.code = 6};

	(void)state;
	assert_int_equal(os_linux.attach(&fake, 7, &program, BPF_MAXINSNS + 1), -E2BIG);
	assert_int_equal(os_linux.attach(&fake, 7, &program, 65537), -E2BIG);
	assert_int_equal(os_linux.attach(&fake, 7, &program, 0), -EINVAL);
}

static void linux_attach_tells_absent_from_forbidden(void **state)
{
	const struct sock_filter program = {.code = 6};

	(void)state;
	fake_will_set(SO_ATTACH_REUSEPORT_CBPF, ENOPROTOOPT);
	assert_int_equal(os_linux.attach(&fake, 7, &program, 1), -ENOTSUP);
	fake_will_set(SO_ATTACH_REUSEPORT_CBPF, EPERM);
	assert_int_equal(os_linux.attach(&fake, 7, &program, 1), -EPERM);
}

static void linux_detach_of_nothing_is_no_error(void **state)
{
	(void)state;
	fake_will_set(SO_DETACH_REUSEPORT_BPF, 0);
	assert_int_equal(os_linux.attach(&fake, 7, NULL, 0), 0);
	fake_will_set(SO_DETACH_REUSEPORT_BPF, ENOENT);
	assert_int_equal(os_linux.attach(&fake, 7, NULL, 0), 0);
	fake_will_set(SO_DETACH_REUSEPORT_BPF, ENOPROTOOPT);
	assert_int_equal(os_linux.attach(&fake, 7, NULL, 0), -ENOTSUP);
}

static void linux_cookie_has_all_64_bits(void **state)
{
	const uint64_t given = 0x1122334455667788;
	uint64_t cookie = 1;

	(void)state;
	fake_will_get(SO_COOKIE, &given, sizeof(given));
	assert_int_equal(os_linux.cookie(&fake, 7, &cookie), 0);
	assert_true(cookie == given);
	fake_will_get_error(SO_COOKIE, ENOPROTOOPT);
	assert_int_equal(os_linux.cookie(&fake, 7, &cookie), -ENOTSUP);
	assert_true(cookie == given);
}

static void linux_queue_reads_listeners_only(void **state)
{
	struct tcp_info info = {.tcpi_state = TCP_LISTEN, .tcpi_unacked = 3, .tcpi_sacked = 128};
	unsigned waiting = 0, backlog = 0;

	(void)state;
	fake_will_get(TCP_INFO, &info, sizeof(info));
	assert_int_equal(os_linux.queue(&fake, 7, &waiting, &backlog), 0);
	assert_int_equal(waiting, 3);
	assert_int_equal(backlog, 128);
	info.tcpi_state = TCP_ESTABLISHED;
	fake_will_get(TCP_INFO, &info, sizeof(info));
	assert_int_equal(os_linux.queue(&fake, 7, &waiting, &backlog), -EINVAL);
	fake_will_get(TCP_INFO, &info, 8); /* an older kernel, a shorter struct */
	assert_int_equal(os_linux.queue(&fake, 7, &waiting, &backlog), -ENOTSUP);
	fake_will_get_error(TCP_INFO, EOPNOTSUPP); /* UDP */
	assert_int_equal(os_linux.queue(&fake, 7, &waiting, &backlog), -ENOTSUP);
}

static void linux_sees_what_the_server_asked_for(void **state)
{
	const int on = 1, off = 0;

	(void)state;
	fake_will_get(SO_REUSEPORT, &on, sizeof(on));
	assert_int_equal(os_linux.shared(&fake, 7), 1);
	fake_will_get(SO_REUSEPORT, &off, sizeof(off));
	assert_int_equal(os_linux.shared(&fake, 7), 0);
	fake_will_get_error(SO_REUSEPORT, EBADF);
	assert_int_equal(os_linux.shared(&fake, 7), -EBADF);
}

static void freebsd_sets_the_balancing_option_and_the_plain_one(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);
	char why[OS_WHY_MAX];

	(void)state;
	fake_will_set(FREEBSD_REUSEPORT_LB, 0);
	fake_will_set(FREEBSD_REUSEPORT, 0);
	assert_int_equal(os_freebsd.share(&fake, 7, &a, why), 0);
	option_was(0, FREEBSD_REUSEPORT_LB, 1);
	option_was(1, FREEBSD_REUSEPORT, 1);
	fake_will_set(FREEBSD_REUSEPORT_LB, 0);
	fake_will_set(FREEBSD_REUSEPORT, 0);
	os_freebsd.unshare(&fake, 7, &a, false, false);
	option_was(2, FREEBSD_REUSEPORT_LB, 0);
	option_was(3, FREEBSD_REUSEPORT, 0);
	os_freebsd.unshare(&fake, 7, &a, true, false);
	assert_int_equal(fake_n_options, 4);
}

static void freebsd_before_12_is_refused(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);
	char why[OS_WHY_MAX];

	(void)state;
	fake_will_set(FREEBSD_REUSEPORT_LB, ENOPROTOOPT);
	assert_int_equal(os_freebsd.share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, "no SO_REUSEPORT_LB here: FreeBSD 12 or newer can balance");
}

static void freebsd_refuses_dual_stack_by_name(void **state)
{
	struct addr a = address(IPPROTO_TCP, "::", 0);
	char why[OS_WHY_MAX];

	(void)state;
	assert_int_equal(os_freebsd.share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, "FreeBSD does not balance the dual-stack [::]:8080:"
				 " bind 0.0.0.0 and, with IPV6_V6ONLY, [::] separately");
	a.v6only = 1;
	assert_int_equal(os_refuse(&os_freebsd, &a, why), 0);
	a = address(IPPROTO_TCP, "::1", 0);
	assert_int_equal(os_refuse(&os_freebsd, &a, why), 0);
}

static void freebsd_listens_in_bind_and_counts_to_256(void **state)
{
	(void)state;
	assert_true(os_freebsd.listen_in_bind);
	assert_int_equal(os_freebsd.members_max, 256);
	assert_false(os_linux.listen_in_bind);
	assert_int_equal(os_linux.members_max, 32768);
}

static void freebsd_knows_both_options_of_the_server(void **state)
{
	const int lb = FREEBSD_REUSEPORT_LB, off = 0, plain = FREEBSD_REUSEPORT;

	(void)state;
	fake_will_get(FREEBSD_REUSEPORT_LB, &lb, sizeof(lb));
	assert_int_equal(os_freebsd.shared(&fake, 7), 1);
	fake_will_get(FREEBSD_REUSEPORT_LB, &off, sizeof(off));
	fake_will_get(FREEBSD_REUSEPORT, &plain, sizeof(plain));
	assert_int_equal(os_freebsd.shared(&fake, 7), 1);
	fake_will_get_error(FREEBSD_REUSEPORT_LB, ENOPROTOOPT);
	fake_will_get(FREEBSD_REUSEPORT, &off, sizeof(off));
	assert_int_equal(os_freebsd.shared(&fake, 7), 0);
}

static void dragonfly_balances_ipv4_by_the_plain_option(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "127.0.0.1", 0);
	char why[OS_WHY_MAX];

	(void)state;
	fake_will_set(BSD_REUSEPORT, 0);
	assert_int_equal(os_dragonfly.share(&fake, 7, &a, why), 0);
	fake_will_set(BSD_REUSEPORT, 0);
	os_dragonfly.unshare(&fake, 7, &a, false, false);
	option_was(0, BSD_REUSEPORT, 1);
	option_was(1, BSD_REUSEPORT, 0);
}

static void dragonfly_refuses_ipv6(void **state)
{
	const struct addr a = address(IPPROTO_TCP, "::1", 1);
	char why[OS_WHY_MAX];

	(void)state;
	assert_int_equal(os_dragonfly.share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, "DragonFly balances IPv4 only, [::1]:8080 would go to one"
				 " listener: bind an IPv4 address");
}

/* No expectation is queued: a refusal that touches the socket fails the test. */
static void refuses_all(const struct os *os, const char *tcp, const char *udp)
{
	struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);
	char why[OS_WHY_MAX];

	assert_int_equal(os->share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, tcp);
	os->unshare(&fake, 7, &a, false, false);
	a.proto = IPPROTO_UDP;
	assert_int_equal(os->share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, udp);
}

static void netbsd_refuses_with_the_reason(void **state)
{
	(void)state;
	refuses_all(&os_netbsd,
		    "NetBSD cannot balance TCP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, not in this version",
		    "NetBSD cannot balance UDP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, not in this version");
	assert_int_equal(os_netbsd.caps, OS_HANDOVER);
}

static void openbsd_refuses_with_the_reason(void **state)
{
	(void)state;
	refuses_all(&os_openbsd,
		    "OpenBSD cannot balance TCP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, not in this version",
		    "OpenBSD cannot balance UDP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, not in this version");
	assert_int_equal(os_openbsd.caps, OS_HANDOVER);
}

static void darwin_refuses_with_the_reason(void **state)
{
	(void)state;
	refuses_all(&os_darwin,
		    "macOS cannot balance TCP 0.0.0.0:8080: one listener gets everything"
		    " (wildcard: the oldest); mode shared would do, not in this version",
		    "macOS cannot balance UDP 0.0.0.0:8080: one listener gets everything"
		    " (wildcard: the oldest); mode shared would do, not in this version");
}

static void an_unknown_system_refuses_everything(void **state)
{
	(void)state;
	refuses_all(&os_unsupported,
		    "this system cannot balance TCP 0.0.0.0:8080: its sharing rules are not known"
		    " here; run one copy, or use Linux",
		    "this system cannot balance UDP 0.0.0.0:8080: its sharing rules are not known"
		    " here; run one copy, or use Linux");
	assert_int_equal(os_unsupported.shared(&fake, 7), 0);
}

static void only_linux_steers_and_keeps_in_this_version(void **state)
{
	const struct sock_filter program = {.code = 6};
	struct os_listener listener;
	unsigned n;
	uint64_t cookie;

	(void)state;
	for (size_t i = 1; i < sizeof(every_os) / sizeof(every_os[0]); i++) {
		const struct os *os = every_os[i];

		assert_int_equal(os->caps & (OS_STEER | OS_KEEPER | OS_LISTENERS), 0);
		assert_int_equal(os->attach(&fake, 7, &program, 1), -ENOTSUP);
		assert_int_equal(os->cookie(&fake, 7, &cookie), -ENOTSUP);
		assert_int_equal(os->queue(&fake, 7, &n, &n), -ENOTSUP);
		assert_int_equal(os->listeners_open(), -ENOTSUP);
		assert_int_equal(os->listeners(3, IPPROTO_TCP, 8080, &listener, 1), -ENOTSUP);
	}
}

static void the_bsds_read_the_plain_option_of_the_server(void **state)
{
	static const struct os *const bsd[] = {&os_dragonfly, &os_netbsd, &os_openbsd, &os_darwin};
	const int on = BSD_REUSEPORT;

	(void)state;
	for (size_t i = 0; i < sizeof(bsd) / sizeof(bsd[0]); i++) {
		fake_will_get(BSD_REUSEPORT, &on, sizeof(on));
		assert_int_equal(bsd[i]->shared(&fake, 7), 1);
	}
}

static void no_refusal_is_cut(void **state)
{
	struct addr a = address(IPPROTO_TCP, "1111:2222:3333:4444:5555:6666:7777:8888", 0);
	char why[OS_WHY_MAX];

	(void)state;
	a.port = 65535;
	for (size_t i = 0; i < sizeof(every_os) / sizeof(every_os[0]); i++) {
		why[0] = '\0';
		os_refuse(every_os[i], &a, why);
		assert_in_range(strlen(why), 0, OS_WHY_MAX - 2);
	}
}

static void other_protocols_are_refused(void **state)
{
	const struct addr a = address(IPPROTO_SCTP, "127.0.0.1", 0);
	char why[OS_WHY_MAX];

	(void)state;
	assert_int_equal(os_refuse(&os_linux, &a, why), -ENOTSUP);
	assert_string_equal(why, "only TCP and UDP can be balanced, not protocol 132");
}

static void a_missing_protocol_is_refused_on_linux_too(void **state)
{
	const struct addr a = address(IPPROTO_UDP, "127.0.0.1", 0);
	struct os weaker = os_linux; /* what a probe has left of it */
	char why[OS_WHY_MAX];

	(void)state;
	weaker.caps &= ~OS_BALANCE_UDP;
	assert_int_equal(os_refuse(&weaker, &a, why), -ENOTSUP);
	assert_string_equal(why, "Linux cannot balance UDP 127.0.0.1:8080:"
				 " its kernel does not do it");
}

static void set_loopback(bool up)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ioctl(fd, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	ioctl(fd, SIOCSIFFLAGS, &ifr);
	close(fd);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

struct outcome {
	int r;
	unsigned leaked;
	long ms;
	struct os_probe probe;
};

static void probe_there(bool up, const struct sys *sys, const struct os *os, struct outcome *out)
{
	struct timespec t0, t1;
	unsigned before;

	set_loopback(up);
	before = open_descriptors();
	clock_gettime(CLOCK_MONOTONIC, &t0);
	out->r = os_probe(sys, os, &out->probe);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	out->ms = (t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000;
	out->leaked = open_descriptors() - before;
}

/* Probes in a namespace of its own; skips the test where none can be made. */
static void probe_in_namespace(bool up, const struct sys *sys, const struct os *os,
			       struct outcome *out)
{
	int pipefd[2], status;
	pid_t pid;
	ssize_t n;

	memset(out, 0, sizeof(*out));
	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			_exit(NAMESPACE_REFUSED);
		probe_there(up, sys, os, out);
		_exit(write(pipefd[1], out, sizeof(*out)) == (ssize_t)sizeof(*out) ? 0 : 1);
	}
	close(pipefd[1]);
	n = read(pipefd[0], out, sizeof(*out));
	close(pipefd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NAMESPACE_REFUSED)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(n, sizeof(*out));
	assert_int_equal(out->leaked, 0);
	assert_in_range(out->ms, 0, 1000);
}

static void probe_sees_this_kernel_balance_and_steer(void **state)
{
	struct outcome out;

	(void)state;
	probe_in_namespace(true, &real, &os_linux, &out);
	assert_int_equal(out.r, 0);
	assert_string_equal(out.probe.why, "");
	assert_int_equal(out.probe.caps | OS_BALANCE_IPV6, os_linux.caps);
	assert_int_equal(out.probe.shares[0] + out.probe.shares[1] + out.probe.shares[2], 60);
}

static void probe_names_a_loopback_that_is_down(void **state)
{
	struct outcome out;

	(void)state;
	probe_in_namespace(false, &real, &os_linux, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps, OS_KEEPER);
	assert_string_equal(out.probe.why,
			    "TCP over IPv4: the loopback interface is down (ip link set lo up)");
}

static int attach_refused(const struct sys *sys, int fd, const void *program, unsigned n)
{
	(void)sys;
	(void)fd;
	(void)program;
	(void)n;
	return -EPERM;
}

static int attach_ignored(const struct sys *sys, int fd, const void *program, unsigned n)
{
	(void)sys;
	(void)fd;
	(void)program;
	(void)n;
	return 0;
}

static void probe_keeps_balance_when_programs_are_refused(void **state)
{
	struct os os = os_linux;
	struct outcome out;

	(void)state;
	os.attach = attach_refused;
	probe_in_namespace(true, &real, &os, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps & (OS_STEER | OS_HANDOVER), 0);
	assert_true(out.probe.caps & OS_BALANCE_TCP);
	assert_true(out.probe.caps & OS_BALANCE_UDP);
	assert_string_equal(out.probe.why, "TCP over IPv4: the kernel takes no program for the"
					   " group: Operation not permitted");
}

static void probe_believes_arrivals_not_return_codes(void **state)
{
	struct os os = os_linux;
	struct outcome out;

	(void)state;
	os.attach = attach_ignored;
	probe_in_namespace(true, &real, &os, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps & OS_STEER, 0);
	assert_string_equal(out.probe.why, "TCP over IPv4: the kernel does not obey the program");
}

static int share_nothing(const struct sys *sys, int fd, const struct addr *addr,
			 char why[OS_WHY_MAX])
{
	(void)sys;
	(void)fd;
	(void)addr;
	(void)why;
	return 0;
}

static void probe_sees_a_port_that_cannot_be_shared(void **state)
{
	struct os os = os_linux;
	struct outcome out;

	(void)state;
	os.share = share_nothing;
	probe_in_namespace(true, &real, &os, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps, OS_KEEPER);
	assert_string_equal(out.probe.why, "TCP over IPv4: no second socket on the port, bind():"
					   " Address already in use");
}

/* The third listener clears its option, so that it gets everything: what the BSDs do by themselves.
 */
static int newest_wins_listen(int fd, int backlog)
{
	static int calls;
	const int off = 0;
	int r = listen(fd, backlog);

	if (r == 0 && ++calls == 3)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &off, sizeof(off));
	return r;
}

static void probe_sees_a_kernel_that_gives_all_to_the_newest(void **state)
{
	struct sys sys = real;
	struct outcome out;

	(void)state;
	sys.listen = newest_wins_listen;
	probe_in_namespace(true, &sys, &os_linux, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps & OS_BALANCE_TCP, 0);
	assert_int_equal(out.probe.shares[2], 60);
	assert_string_equal(out.probe.why,
			    "TCP over IPv4: the kernel does not balance the listeners");
}

static int poll_nothing(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	(void)fds;
	(void)n;
	return poll(NULL, 0, timeout_ms);
}

static void probe_ends_within_a_second_when_nothing_arrives(void **state)
{
	struct sys sys = real;
	struct outcome out;

	(void)state;
	sys.poll = poll_nothing;
	probe_in_namespace(true, &sys, &os_linux, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps, OS_KEEPER);
	assert_string_equal(out.probe.why, "TCP over IPv4: what is sent to loopback does not"
					   " arrive (a packet filter?)");
}

static int poll_slowly(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	poll(NULL, 0, 20);
	return poll(fds, n, timeout_ms);
}

static void probe_gives_up_on_a_machine_that_is_too_slow(void **state)
{
	struct sys sys = real;
	struct outcome out;

	(void)state;
	sys.poll = poll_slowly;
	probe_in_namespace(true, &sys, &os_linux, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps, OS_KEEPER);
	assert_string_equal(out.probe.why, "TCP over IPv4: not measured to the end within 0.8 s");
}

static int no_descriptor(int domain, int type, int protocol)
{
	static int calls;

	if (++calls < 6)
		return socket(domain, type, protocol);
	errno = EMFILE;
	return -1;
}

static void probe_tells_a_shortage_from_a_refusal(void **state)
{
	struct sys sys = real;
	struct outcome out;

	(void)state;
	sys.socket = no_descriptor;
	probe_in_namespace(true, &sys, &os_linux, &out);
	assert_int_equal(out.r, -EMFILE);
}

static void probe_of_a_system_that_cannot_balance_opens_nothing(void **state)
{
	struct os_probe probe;

	(void)state;
	assert_int_equal(os_probe(&fake, &os_openbsd, &probe), 0);
	assert_int_equal(probe.caps, 0);
	assert_string_equal(probe.why, "OpenBSD: the newest bind gets everything;"
				       " mode shared would do, not in this version");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(linux_tcp_gets_both_options, reset),
		cmocka_unit_test_setup(linux_udp_never_gets_reuseaddr, reset),
		cmocka_unit_test_setup(linux_without_the_option_says_so_and_changes_nothing, reset),
		cmocka_unit_test_setup(linux_balances_ipv6_and_dual_stack, reset),
		cmocka_unit_test_setup(linux_unshare_leaves_what_the_server_had_set, reset),
		cmocka_unit_test_setup(linux_attaches_the_program_it_is_given, reset),
		cmocka_unit_test_setup(linux_attach_refuses_a_length_that_would_be_cut, reset),
		cmocka_unit_test_setup(linux_attach_tells_absent_from_forbidden, reset),
		cmocka_unit_test_setup(linux_detach_of_nothing_is_no_error, reset),
		cmocka_unit_test_setup(linux_cookie_has_all_64_bits, reset),
		cmocka_unit_test_setup(linux_queue_reads_listeners_only, reset),
		cmocka_unit_test_setup(linux_sees_what_the_server_asked_for, reset),
		cmocka_unit_test_setup(freebsd_sets_the_balancing_option_and_the_plain_one, reset),
		cmocka_unit_test_setup(freebsd_before_12_is_refused, reset),
		cmocka_unit_test_setup(freebsd_refuses_dual_stack_by_name, reset),
		cmocka_unit_test_setup(freebsd_listens_in_bind_and_counts_to_256, reset),
		cmocka_unit_test_setup(freebsd_knows_both_options_of_the_server, reset),
		cmocka_unit_test_setup(dragonfly_balances_ipv4_by_the_plain_option, reset),
		cmocka_unit_test_setup(dragonfly_refuses_ipv6, reset),
		cmocka_unit_test_setup(netbsd_refuses_with_the_reason, reset),
		cmocka_unit_test_setup(openbsd_refuses_with_the_reason, reset),
		cmocka_unit_test_setup(darwin_refuses_with_the_reason, reset),
		cmocka_unit_test_setup(an_unknown_system_refuses_everything, reset),
		cmocka_unit_test_setup(only_linux_steers_and_keeps_in_this_version, reset),
		cmocka_unit_test_setup(the_bsds_read_the_plain_option_of_the_server, reset),
		cmocka_unit_test_setup(no_refusal_is_cut, reset),
		cmocka_unit_test_setup(other_protocols_are_refused, reset),
		cmocka_unit_test_setup(a_missing_protocol_is_refused_on_linux_too, reset),
		cmocka_unit_test(probe_sees_this_kernel_balance_and_steer),
		cmocka_unit_test(probe_names_a_loopback_that_is_down),
		cmocka_unit_test(probe_keeps_balance_when_programs_are_refused),
		cmocka_unit_test(probe_believes_arrivals_not_return_codes),
		cmocka_unit_test(probe_sees_a_port_that_cannot_be_shared),
		cmocka_unit_test(probe_sees_a_kernel_that_gives_all_to_the_newest),
		cmocka_unit_test(probe_ends_within_a_second_when_nothing_arrives),
		cmocka_unit_test(probe_gives_up_on_a_machine_that_is_too_slow),
		cmocka_unit_test(probe_tells_a_shortage_from_a_refusal),
		cmocka_unit_test(probe_of_a_system_that_cannot_balance_opens_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Every system's choice of options and every refusal, through the fake of the system's calls. */
#include "../../shim/os/os.h"
#include "../support/fake_sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define FREEBSD_REUSEPORT    0x0200
#define FREEBSD_REUSEPORT_LB 0x10000
#define BSD_REUSEPORT	     0x0200

static const struct os *const every_os[] = {&os_linux,	 &os_freebsd, &os_dragonfly,  &os_netbsd,
					    &os_openbsd, &os_darwin,  &os_unsupported};

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
	static const int others[] = {EOPNOTSUPP, EINVAL, EPERM, EACCES, ENOSYS};
	const struct addr a = address(IPPROTO_TCP, "0.0.0.0", 0);
	char why[OS_WHY_MAX] = "";

	(void)state;
	fake_will_set(SO_REUSEPORT, ENOPROTOOPT);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), -ENOTSUP);
	assert_string_equal(why, "SO_REUSEPORT is refused here (Protocol not available): a sandbox,"
				 " a kernel before 3.9 or another system's Linux layer");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		fake_will_set(SO_REUSEPORT, others[i]);
		strcpy(why, "");
		assert_int_equal(os_linux.share(&fake, 7, &a, why), -ENOTSUP);
		assert_non_null(strstr(why, strerror(others[i])));
	}
	fake_will_set(SO_REUSEPORT, EBADF);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), -EBADF);
	fake_will_set(SO_REUSEPORT, ENOMEM);
	assert_int_equal(os_linux.share(&fake, 7, &a, why), -ENOMEM);
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
		    " mode shared would do, but the keeper runs on Linux only",
		    "NetBSD cannot balance UDP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, but the keeper runs on Linux only");
	assert_int_equal(os_netbsd.caps, OS_HANDOVER);
}

static void openbsd_refuses_with_the_reason(void **state)
{
	(void)state;
	refuses_all(&os_openbsd,
		    "OpenBSD cannot balance TCP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, but the keeper runs on Linux only",
		    "OpenBSD cannot balance UDP 0.0.0.0:8080: the newest bind gets everything;"
		    " mode shared would do, but the keeper runs on Linux only");
	assert_int_equal(os_openbsd.caps, OS_HANDOVER);
}

static void darwin_refuses_with_the_reason(void **state)
{
	(void)state;
	refuses_all(&os_darwin,
		    "macOS cannot balance TCP 0.0.0.0:8080: one listener gets everything"
		    " (wildcard: the oldest); mode shared would do, but the keeper runs on Linux only",
		    "macOS cannot balance UDP 0.0.0.0:8080: one listener gets everything"
		    " (wildcard: the oldest); mode shared would do, but the keeper runs on Linux only");
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The keeper makes a socket for a claimant like the one that is claimed: its options, and what forbids
 * to make one. */
#include "claim_fixture.h"

#include <linux/capability.h>
#include <linux/filter.h>

static int int_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_return_code(getsockopt(fd, level, name, &value, &len), errno);
	return value;
}

static const int options[][3] = {
	{ SOL_SOCKET, SO_KEEPALIVE, 1 }, { SOL_SOCKET, SO_RCVBUF, 30000 },
	{ SOL_SOCKET, SO_SNDBUF, 40001 }, { SOL_SOCKET, SO_PRIORITY, 3 },
	{ SOL_SOCKET, SO_TIMESTAMPNS, 1 }, { IPPROTO_TCP, TCP_NODELAY, 1 },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 5 }, { IPPROTO_TCP, TCP_KEEPIDLE, 77 },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 9000 }, { IPPROTO_TCP, TCP_FASTOPEN, 7 },
	{ IPPROTO_IP, IP_TOS, 0x10 }, { IPPROTO_IP, IP_TTL, 33 },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static const struct linger lingers = { 1, 9 };
static const struct timeval timeout = { 3, 500000 };

static void set_options(int fd)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
	struct sock_fprog program = { 1, &all };

	for (size_t i = 0; i < OPTIONS; i++)
		set_int(fd, options[i][0], options[i][1], options[i][2]);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_LINGER, &lingers, sizeof(lingers)), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)),
	                   errno);
}

static void the_made_socket_has_the_same_options_and_backlog(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = open_with(&w, set_options);
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct tcp_info info;
	struct linger l;
	struct timeval t;
	socklen_t len = sizeof(l);

	(void)state;
	assert_int_equal(two.joined.made, 1);
	for (size_t i = 0; i < OPTIONS; i++)
		assert_int_equal(int_of(two.fd, options[i][0], options[i][1]),
		                 int_of(o.s.fd, options[i][0], options[i][1]));
	assert_int_equal(int_of(two.fd, SOL_SOCKET, SO_RCVBUF), 60000);
	assert_int_equal(int_of(two.fd, SOL_SOCKET, SO_BUF_LOCK), 3);
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_LINGER, &l, &len), errno);
	assert_memory_equal(&l, &lingers, sizeof(l));
	len = sizeof(t);
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len), errno);
	assert_memory_equal(&t, &timeout, sizeof(t));
	len = 0;
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len), errno);
	assert_int_equal(len, 1);
	len = sizeof(info);
	assert_return_code(getsockopt(two.fd, IPPROTO_TCP, TCP_INFO, &info, &len), errno);
	assert_int_equal(info.tcpi_sacked, 64); /* the fixture's backlog */
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

static void buffers_that_the_kernel_tunes_are_left_to_it(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	assert_int_equal(int_of(two.fd, SOL_SOCKET, SO_BUF_LOCK), 0);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

/* No getsockopt hands out an eBPF program. */
static void attach_ebpf_filter(int fd)
{
	/* bpf(2): r0 = 0xffff; exit */
	uint64_t insns[2] = { UINT64_C(0x0000ffff000000b7), UINT64_C(0x0000000000000095) };
	struct {
		uint32_t type, count;
		uint64_t insns, license;
		uint32_t rest[24];
	} load = { 1, 2, (uintptr_t)insns, (uintptr_t) "GPL", { 0 } };
	int program = (int)syscall(SYS_bpf, 5, &load, sizeof(load));

	if (program == -1)
		return;
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)),
	                   errno);
	close(program);
}

static void an_option_that_cannot_be_copied_leaves_the_socket_shared(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = open_with(&w, attach_ebpf_filter);
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	assert_int_equal(one.joined.why, 0);
	if (!two.joined.made) { /* else this system lets nobody load a program */
		assert_int_equal(two.joined.why, -EACCES);
		assert_string_equal(two.joined.option, "SO_ATTACH_FILTER");
		assert_int_equal(look().slots, 1);
		assert_int_equal(look().slot[0].owners, 2);
	}
	worker_close(&one);
	assert_int_equal(look().slot[look().slots - 1].state, WIRE_LIVE); /* the other one accepts */
	worker_close(&two);
	opener_close(&o);
}

/* --- a keeper that lacks the right to low ports */

#define LOW_PORT 81

static bool low_ports(bool allowed)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) == -1)
		return false;
	if (allowed)
		data[0].effective |= 1u << CAP_NET_BIND_SERVICE;
	else
		data[0].effective &= ~(1u << CAP_NET_BIND_SERVICE);
	return syscall(SYS_capset, &head, data) == 0;
}

static int keeper_without_right(void **state)
{
	(void)low_ports(false);
	(void)keeper_up(state);
	(void)low_ports(true);
	port = LOW_PORT;
	return 0;
}

static void without_the_right_to_a_low_port_the_socket_stays_shared(void **state)
{
	struct opener o;
	struct worker one, two;

	(void)state;
	if (!low_ports(true)) {
		print_message("  not allowed: to give up and regain a capability\n");
		skip();
	}
	o = opener_up();
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(two.joined.made, 0);
	assert_int_equal(two.joined.why, -EACCES);
	assert_string_equal(two.joined.option, "");
	assert_int_equal(look().slots, 1);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(the_made_socket_has_the_same_options_and_backlog),
		KEEPER_TEST(buffers_that_the_kernel_tunes_are_left_to_it),
		KEEPER_TEST(an_option_that_cannot_be_copied_leaves_the_socket_shared),
		cmocka_unit_test_setup_teardown(
			without_the_right_to_a_low_port_the_socket_stays_shared,
			keeper_without_right, keeper_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

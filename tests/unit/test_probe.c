/* The probe on the kernel that runs the test, in a network namespace of its own, with one call or
 * operation at a time made to fail. */
#include "../../shim/os/os.h"
#include "../support/fake_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { NAMESPACE_REFUSED = 77 };

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
	if (WEXITSTATUS(status) == NAMESPACE_REFUSED) {
		print_message("  not allowed: a network namespace\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(n, sizeof(*out));
	assert_int_equal(out->leaked, 0);
	assert_in_range(out->ms, 0, 5000); /* its budget is 800 ms, the rest a busy machine's */
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
	assert_int_equal(out.probe.caps, OS_KEEPER | OS_LISTENERS);
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
	assert_int_equal(out.probe.caps, OS_KEEPER | OS_LISTENERS);
	assert_string_equal(out.probe.why, "TCP over IPv4: no second socket on the port, bind():"
					   " Address already in use");
}

/* The third of a group clears its option, so that it gets everything: what the BSDs do by themselves.
 */
static int newest_wins_listen(int fd, int backlog)
{
	static int calls;
	const int off = 0;
	int r = listen(fd, backlog);

	if (r == 0 && ++calls == 4) /* the first one is alone */
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
	assert_int_equal(out.probe.caps, OS_KEEPER | OS_LISTENERS);
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
	assert_int_equal(out.probe.caps, OS_KEEPER | OS_LISTENERS);
	assert_string_equal(out.probe.why, "TCP over IPv4: not measured to the end within 0.8 s");
}

static int no_descriptor(int domain, int type, int protocol)
{
	static int calls;

	if (++calls < 8)
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

static int no_cookie(const struct sys *sys, int fd, uint64_t *ret_cookie)
{
	(void)sys;
	(void)fd;
	(void)ret_cookie;
	return -ENOTSUP;
}

static void probe_sees_no_keeper_where_sockets_have_no_cookie(void **state)
{
	struct os os = os_linux;
	struct outcome out;

	(void)state;
	os.cookie = no_cookie;
	probe_in_namespace(true, &real, &os, &out);
	assert_int_equal(out.r, 0);
	assert_int_equal(out.probe.caps & OS_KEEPER, 0);
	assert_true(out.probe.caps & OS_BALANCE_TCP);
}

static void a_try_refuses_what_the_option_or_the_system_refuses(void **state)
{
	struct addr a = {.proto = IPPROTO_TCP, .family = AF_INET, .port = 80};
	struct sys sys = real;
	char why[OS_WHY_MAX] = "";

	(void)state;
	sys.setsockopt = fake.setsockopt;
	fake_will_set(SO_REUSEPORT, EPERM);
	assert_int_equal(os_try(&sys, &os_linux, &a, why), -ENOTSUP);
	assert_non_null(strstr(why, "SO_REUSEPORT is refused"));
	fake_will_set(SO_REUSEPORT, 0);
	fake_will_set(SO_REUSEADDR, 0);
	assert_int_equal(os_try(&sys, &os_linux, &a, why), 0);
	fake_will_set(SO_REUSEPORT, ENOMEM); /* says nothing about the system */
	assert_int_equal(os_try(&sys, &os_linux, &a, why), 0);
	assert_int_equal(os_try(&fake, &os_openbsd, &a, why), -ENOTSUP);
	assert_non_null(strstr(why, "newest bind gets everything"));
}

static void probe_of_a_system_that_cannot_balance_opens_nothing(void **state)
{
	struct os_probe probe;

	(void)state;
	assert_int_equal(os_probe(&fake, &os_openbsd, &probe), 0);
	assert_int_equal(probe.caps, 0);
	assert_string_equal(probe.why, "OpenBSD: the newest bind gets everything;"
				       " mode shared would do, but the keeper runs on Linux only");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probe_sees_this_kernel_balance_and_steer),
		cmocka_unit_test(probe_names_a_loopback_that_is_down),
		cmocka_unit_test(probe_keeps_balance_when_programs_are_refused),
		cmocka_unit_test(probe_believes_arrivals_not_return_codes),
		cmocka_unit_test(probe_sees_a_port_that_cannot_be_shared),
		cmocka_unit_test(probe_sees_a_kernel_that_gives_all_to_the_newest),
		cmocka_unit_test(probe_ends_within_a_second_when_nothing_arrives),
		cmocka_unit_test(probe_gives_up_on_a_machine_that_is_too_slow),
		cmocka_unit_test(probe_tells_a_shortage_from_a_refusal),
		cmocka_unit_test(probe_sees_no_keeper_where_sockets_have_no_cookie),
		cmocka_unit_test(a_try_refuses_what_the_option_or_the_system_refuses),
		cmocka_unit_test(probe_of_a_system_that_cannot_balance_opens_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

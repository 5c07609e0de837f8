/* Sockets that the keeper was making when its worker died, and the copying of options: without a keeper
 * process. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/keeper/made.h"
#include "../../shim/keeper/snapshot.h"

static struct keeper *k;
static struct sockaddr_in where;

static int up(void **state)
{
	struct shared *shared = snapshot_make();

	(void)state;
	assert_non_null(shared);
	k = snapshot_new(shared);
	assert_non_null(k);
	k->sys = sys_get();
	k->os = os_get();
	return 0;
}

/* Listens, and is the only one of a group that the keeper knows. */
static int listener(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(where);

	where = (struct sockaddr_in){ .sin_family = AF_INET };
	where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_return_code(bind(fd, (struct sockaddr *)&where, len), errno);
	assert_return_code(listen(fd, 16), errno);
	assert_return_code(getsockname(fd, (struct sockaddr *)&where, &len), errno);
	k->groups[0].used = true;
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&where, len, &k->groups[0].addr), 0);
	k->groups[0].addr.proto = IPPROTO_TCP;
	k->group_top = 1;
	return fd;
}

static int client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(connect(fd, (struct sockaddr *)&where, sizeof(where)), errno);
	return fd;
}

static void what_waits_in_a_socket_that_was_being_made_is_taken_to_be_given(void **state)
{
	int fd = listener(), clients[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		clients[i] = client();
	k->shared->making = snapshot_identity(fd);
	assert_true(made_found(k, fd));
	assert_int_equal(k->gift_top, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(k->gifts[i].used);
		assert_int_equal(k->gifts[i].group, 0);
		close(k->gifts[i].fd);
		close(clients[i]);
	}
	assert_int_equal(snapshot_identity(fd), 0); /* closed */
	assert_int_equal(k->shared->making, 0);
}

static void a_listener_that_somebody_sent_is_not_touched(void **state)
{
	int fd = listener(), one = client(), flags = fcntl(fd, F_GETFL);

	(void)state;
	k->shared->making = snapshot_identity(fd) + 1;
	assert_false(made_found(k, fd));
	k->shared->making = 0;
	assert_false(made_found(k, fd));
	assert_int_equal(fcntl(fd, F_GETFL), flags);
	assert_int_equal(k->gift_top, 0);
	close(one);
	close(fd);
}

/* --- sockopt_copy() */

static char name[SOCKOPT_NAME_MAX];

static bool pair(int family, int fds[2])
{
	fds[0] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[1] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memset(name, 0, sizeof(name));
	return fds[0] != -1 && fds[1] != -1;
}

static void two_fresh_sockets_need_no_setting(void **state)
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct sys sys = *sys_get();
	int fds[2];

	(void)state;
	sys.setsockopt = NULL; /* whoever calls it crashes */
	for (unsigned i = 0; i < 2; i++) {
		if (!pair(families[i], fds))
			continue;
		assert_int_equal(sockopt_copy(&sys, fds[0], fds[1], name), 0);
		close(fds[0]);
		close(fds[1]);
	}
}

static int refuse(int fd, int level, int option, const void *value, socklen_t len)
{
	if (level == IPPROTO_TCP && option == TCP_USER_TIMEOUT) {
		errno = EPERM;
		return -1;
	}
	return setsockopt(fd, level, option, value, len);
}

static int forget(int fd, int level, int option, const void *value, socklen_t len)
{
	if (level == IPPROTO_TCP && option == TCP_USER_TIMEOUT)
		return 0;
	return setsockopt(fd, level, option, value, len);
}

static void an_option_that_cannot_be_set_is_named(void **state)
{
	struct sys sys = *sys_get();
	int fds[2], ms = 5000;

	(void)state;
	assert_true(pair(AF_INET, fds));
	assert_int_equal(setsockopt(fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)), 0);
	sys.setsockopt = refuse;
	assert_int_equal(sockopt_copy(&sys, fds[0], fds[1], name), -EPERM);
	assert_string_equal(name, "TCP_USER_TIMEOUT");
	memset(name, 0, sizeof(name));
	sys.setsockopt = forget;
	assert_int_equal(sockopt_copy(&sys, fds[0], fds[1], name), -EOPNOTSUPP);
	assert_string_equal(name, "TCP_USER_TIMEOUT");
	assert_int_equal(sockopt_copy(sys_get(), fds[0], fds[1], name), 0);
	close(fds[0]);
	close(fds[1]);
}

static void one_buffer_may_be_fixed_and_the_other_not(void **state)
{
	int fds[2], bytes, is;
	socklen_t len = sizeof(is);

	(void)state;
	assert_true(pair(AF_INET, fds));
	assert_int_equal(getsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &bytes, &len), 0);
	bytes /= 2; /* what it has anyway */
	assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
	assert_int_equal(sockopt_copy(sys_get(), fds[0], fds[1], name), 0);
	assert_int_equal(getsockopt(fds[1], SOL_SOCKET, SO_BUF_LOCK, &is, &len), 0);
	assert_int_equal(is, 2); /* SOCK_RCVBUF_LOCK */
	close(fds[0]);
	close(fds[1]);
}

static void set_md5_key(int fd)
{
	struct tcp_md5sig sig = { .tcpm_keylen = 6, .tcpm_key = "secret" };
	struct sockaddr_in peer = { .sin_family = AF_INET };

	peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memcpy(&sig.tcpm_addr, &peer, sizeof(peer));
	assert_return_code(setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &sig, sizeof(sig)), errno);
}

static void a_key_for_signatures_is_named_whatever_else_was_copied(void **state)
{
	struct sock_filter pass = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
	struct sock_fprog filter = { .len = 1, .filter = &pass };
	int fds[2];

	(void)state;
	assert_true(pair(AF_INET, fds));
	assert_return_code(
	        setsockopt(fds[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), errno);
	set_md5_key(fds[0]);
	assert_int_equal(sockopt_copy(sys_get(), fds[0], fds[1], name), -EOPNOTSUPP);
	assert_string_equal(name, "TCP_MD5SIG (or BPF storage)");
	memset(name, 0, sizeof(name));
	assert_true(sockopt_differs(sys_get(), fds[1], fds[0], name));
	assert_string_equal(name, "TCP_MD5SIG (or BPF storage)");
	set_md5_key(fds[1]);
	assert_false(sockopt_differs(sys_get(), fds[1], fds[0], name));
	close(fds[0]);
	close(fds[1]);
}

/* As a kernel with CONFIG_TCP_AO answers; this one may be without. */
static int keyed_fd;

static int tell_ao(int fd, int level, int option, void *value, socklen_t *len)
{
	if (level == IPPROTO_TCP && option == 40) { /* TCP_AO_INFO */
		errno = ENOENT;
		return fd == keyed_fd ? 0 : -1;
	}
	return getsockopt(fd, level, option, value, len);
}

static void authentication_keys_are_named(void **state)
{
	struct sys sys = *sys_get();
	int fds[2];

	(void)state;
	sys.getsockopt = tell_ao;
	assert_true(pair(AF_INET, fds));
	keyed_fd = -1;
	assert_int_equal(sockopt_copy(&sys, fds[0], fds[1], name), 0);
	keyed_fd = fds[0];
	assert_int_equal(sockopt_copy(&sys, fds[0], fds[1], name), -EOPNOTSUPP);
	assert_string_equal(name, "TCP_AO_ADD_KEY");
	close(fds[0]);
	close(fds[1]);
}

static void what_takes_memory_and_can_be_copied_is(void **state)
{
	uint8_t padding[8] = { 0, 0, 1, 4 }; /* a hop-by-hop header: one PadN of 6 bytes */
	struct sock_filter code[2] = { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		                       BPF_STMT(BPF_RET | BPF_A, 0) };
	struct sock_fprog filter = { .len = 2, .filter = code };
	int fds[2], on = 1;

	(void)state;
	if (!pair(AF_INET6, fds))
		skip();
	assert_return_code(
	        setsockopt(fds[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), errno);
	assert_return_code(setsockopt(fds[0], IPPROTO_IPV6, IPV6_2292PKTINFO, &on, sizeof(on)), errno);
	(void)setsockopt(fds[0], IPPROTO_IPV6, IPV6_HOPOPTS, padding, sizeof(padding)); /* if allowed */
	assert_true(sockopt_differs(sys_get(), fds[0], fds[1], name));
	assert_int_equal(sockopt_copy(sys_get(), fds[0], fds[1], name), 0);
	assert_false(sockopt_differs(sys_get(), fds[0], fds[1], name));
	code[1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 64);
	assert_return_code(
	        setsockopt(fds[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), errno);
	assert_true(sockopt_differs(sys_get(), fds[0], fds[1], name));
	assert_string_equal(name, "SO_ATTACH_FILTER");
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			what_waits_in_a_socket_that_was_being_made_is_taken_to_be_given, up),
		cmocka_unit_test_setup(a_listener_that_somebody_sent_is_not_touched, up),
		cmocka_unit_test(two_fresh_sockets_need_no_setting),
		cmocka_unit_test(an_option_that_cannot_be_set_is_named),
		cmocka_unit_test(one_buffer_may_be_fixed_and_the_other_not),
		cmocka_unit_test(a_key_for_signatures_is_named_whatever_else_was_copied),
		cmocka_unit_test(authentication_keys_are_named),
		cmocka_unit_test(what_takes_memory_and_can_be_copied_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

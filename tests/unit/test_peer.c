/* keeper/peer.c: whose connection this is, and a keeper's names. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/keeper/peer.h"

#define NOBODY 65534u

static void a_peer_has_the_uid_and_pid_of_whoever_connected(void **state)
{
	uint32_t uid, pid;
	int pair[2];

	(void)state;
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), errno);
	assert_int_equal(peer_identify(sys_get(), pair[0], &uid, &pid), 0);
	assert_int_equal(uid, geteuid());
	assert_int_equal(pid, getpid());
	close(pair[0]);
	close(pair[1]);
}

static void what_has_no_peer_is_an_error(void **state)
{
	uint32_t uid = 5, pid = 6;
	int pipes[2];

	(void)state;
	assert_int_equal(peer_identify(sys_get(), -1, &uid, &pid), -EBADF);
	assert_return_code(pipe(pipes), errno);
	assert_int_equal(peer_identify(sys_get(), pipes[0], &uid, &pid), -ENOTSOCK);
	assert_int_equal(uid, 5);
	assert_int_equal(pid, 6);
	close(pipes[0]);
	close(pipes[1]);
}

static void the_same_uid_is_the_same_user(void **state)
{
	(void)state;
	assert_true(peer_is(1000, 1, 1000));
	assert_true(peer_is(0, 0, 0));
	assert_false(peer_is(1000, (uint32_t)getpid(), 1001));
	assert_false(peer_is(0, 1, 1000));
}

static void nobody_must_be_in_our_user_namespace(void **state)
{
	(void)state;
	assert_true(peer_is(NOBODY, (uint32_t)getpid(), NOBODY));
	assert_false(peer_is(NOBODY, 0, NOBODY));
	assert_false(peer_is(NOBODY, 0x7ffffffe, NOBODY)); /* no such process */
}

static void nobody_of_another_user_namespace_is_somebody_else(void **state)
{
	int ready[2], end[2];
	char byte = 0;
	pid_t child;

	(void)state;
	assert_return_code(pipe(ready), errno);
	assert_return_code(pipe(end), errno);
	child = fork();
	if (child == 0) {
		close(end[1]);
		byte = unshare(CLONE_NEWUSER) == 0;
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		(void)!read(end[0], &byte, 1); /* until the parent is done */
		_exit(0);
	}
	assert_return_code(child, errno);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	if (byte)
		assert_false(peer_is(NOBODY, (uint32_t)child, NOBODY));
	close(end[1]);
	waitpid(child, NULL, 0);
	close(end[0]);
	close(ready[0]);
	close(ready[1]);
	if (!byte) {
		print_message("  not allowed: a user namespace\n");
		skip();
	}
}

static void a_default_name_tells_user_and_number(void **state)
{
	static const char want[] = "\0sockshard/1000/7";
	struct sockaddr_un sun;
	socklen_t len = peer_address(NULL, 1000, 7, &sun);

	(void)state;
	assert_int_equal(sun.sun_family, AF_UNIX);
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + sizeof(want) - 1);
	assert_memory_equal(sun.sun_path, want, sizeof(want) - 1);
}

static void a_name_of_ones_own_is_taken_as_it_is(void **state)
{
	struct sockaddr_un sun;
	socklen_t len = peer_address("private", 1000, 7, &sun);

	(void)state;
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + 8);
	assert_memory_equal(sun.sun_path, "\0private", 8);
}

static void a_name_that_does_not_fit_is_refused_and_not_cut(void **state)
{
	struct sockaddr_un sun;
	char name[128];
	size_t longest = sizeof(sun.sun_path) - 2;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[longest] = '\0';
	assert_int_equal(peer_address(name, 0, 0, &sun),
			 offsetof(struct sockaddr_un, sun_path) + 1 + longest);
	name[longest] = 'x';
	name[longest + 1] = '\0';
	assert_int_equal(peer_address(name, 0, 0, &sun), 0);
	assert_int_equal(peer_address("", 0, 0, &sun), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_peer_has_the_uid_and_pid_of_whoever_connected),
		cmocka_unit_test(what_has_no_peer_is_an_error),
		cmocka_unit_test(the_same_uid_is_the_same_user),
		cmocka_unit_test(nobody_must_be_in_our_user_namespace),
		cmocka_unit_test(nobody_of_another_user_namespace_is_somebody_else),
		cmocka_unit_test(a_default_name_tells_user_and_number),
		cmocka_unit_test(a_name_of_ones_own_is_taken_as_it_is),
		cmocka_unit_test(a_name_that_does_not_fit_is_refused_and_not_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

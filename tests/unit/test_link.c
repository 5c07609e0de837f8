/* core/link.c: one connection, and several threads that ask by it. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../shim/core/link.h"
#include "../../shim/os/os.h"

#define FROZEN_US 600000 /* well within the deadline of a question */

static struct shard shard;
static int keeper_end;

static int up(void **state)
{
	int ends[2];

	(void)state;
	memset(&shard, 0, sizeof(shard));
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), errno);
	shard.keeper.fd = ends[0];
	keeper_end = ends[1];
	assert_int_equal(os_get()->cookie(sys_get(), ends[0], &shard.keeper_cookie), 0);
	fdtab_lock();
	assert_int_equal(fdtab_add_internal(ends[0]), 0);
	fdtab_unlock();
	return 0;
}

static int down(void **state)
{
	(void)state;
	link_close(sys_get(), &shard);
	close(keeper_end);
	return 0;
}

static struct wire_packet question(void)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_ASK;
	return p;
}

static bool keeper_has_a_question(void)
{
	struct wire_packet p;

	return wire_receive(sys_get(), keeper_end, MSG_DONTWAIT, &p) == 1;
}

/* The keeper stands still for a while, and then answers the thread that asked first. */
static void *end_the_first_question(void *unused)
{
	usleep(FROZEN_US);
	atomic_store(&shard.busy, false);
	return unused;
}

/* What link_tell() says while the question of another thread is under way, which ends so. */
static int told_beside(void *(*first_ends)(void *))
{
	struct wire_packet p = question();
	pthread_t first;
	int r;

	atomic_store(&shard.busy, true);
	assert_int_equal(pthread_create(&first, NULL, first_ends, NULL), 0);
	r = link_tell(sys_get(), &shard, &p);
	assert_int_equal(pthread_join(first, NULL), 0);
	return r;
}

static void a_thread_waits_for_the_question_of_another(void **state)
{
	(void)state;
	assert_int_equal(told_beside(end_the_first_question), 0);
	assert_true(keeper_has_a_question());
}

static void *lose_the_connection(void *unused)
{
	usleep(FROZEN_US);
	link_close(sys_get(), &shard);
	atomic_store(&shard.busy, false);
	return unused;
}

static void the_next_thread_hears_that_the_connection_is_lost(void **state)
{
	(void)state;
	assert_int_equal(told_beside(lose_the_connection), -ENOTCONN);
	assert_false(atomic_load(&shard.busy));
}

static void a_number_that_is_somebody_elses_now_is_not_closed(void **state)
{
	int fd = shard.keeper.fd, other = dup(STDERR_FILENO);

	(void)state;
	assert_return_code(dup2(other, fd), errno);
	link_close(sys_get(), &shard);
	assert_int_equal(shard.keeper.fd, -1);
	assert_return_code(close(fd), errno);
	close(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)
	const struct CMUnitTest tests[] = {
		TEST(a_thread_waits_for_the_question_of_another),
		TEST(the_next_thread_hears_that_the_connection_is_lost),
		TEST(a_number_that_is_somebody_elses_now_is_not_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

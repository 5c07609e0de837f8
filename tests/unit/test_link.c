/* core/link.c: one connection, and several threads that ask by it. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../shim/core/init.h"
#include "../../shim/core/link.h"
#include "../../shim/keeper/peer.h"
#include "../../shim/os/os.h"

#define FROZEN_US 600000 /* well within the deadline of a question */

static struct shard shard;
static struct wire_page page;
static int keeper_end;
static struct sys slow; /* as sys_get(), but for the test's own calls */

static int up(void **state)
{
	int ends[2];

	(void)state;
	memset(&shard, 0, sizeof(shard));
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), errno);
	shard.counter = &page;
	atomic_store(&page.word, WIRE_NUDGED);
	slow = *sys_get();
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
	link_end_turn(&shard);
	return unused;
}

static void a_thread_waits_for_the_question_of_another(void **state)
{
	struct wire_packet p = question();
	pthread_t first;

	(void)state;
	assert_int_equal(link_take_turn(&shard), 0);
	assert_int_equal(pthread_create(&first, NULL, end_the_first_question, NULL), 0);
	assert_int_equal(link_take_turn(&shard), 0);
	assert_int_equal(link_tell(sys_get(), &shard, &p), 0);
	link_end_turn(&shard);
	assert_int_equal(pthread_join(first, NULL), 0);
	assert_true(keeper_has_a_question());
}

static void *lose_the_connection(void *unused)
{
	usleep(FROZEN_US);
	link_close(sys_get(), &shard);
	link_end_turn(&shard);
	return unused;
}

static void the_next_thread_hears_that_the_connection_is_lost(void **state)
{
	struct wire_packet p = question();
	pthread_t first;

	(void)state;
	assert_int_equal(link_take_turn(&shard), 0);
	assert_int_equal(pthread_create(&first, NULL, lose_the_connection, NULL), 0);
	assert_int_equal(link_ask(sys_get(), &shard, &p), -ENOTCONN);
	assert_int_equal(pthread_join(first, NULL), 0);
	assert_false(atomic_load(&shard.busy));
}

/* The keeper, which sees the end of a connection, calls at once. */
static int close_and_be_called(int fd)
{
	atomic_fetch_or(&page.word, WIRE_NUDGED);
	return close(fd);
}

static void a_call_after_the_end_of_the_connection_is_not_lost(void **state)
{
	(void)state;
	slow.close = close_and_be_called;
	link_give_up(&slow, &shard);
	assert_int_equal(shard.keeper.fd, -1);
	assert_true(atomic_load(&page.word) & WIRE_NUDGED);
}

static void whoever_finds_no_connection_leaves_the_call_as_it_is(void **state)
{
	(void)state;
	link_close(sys_get(), &shard);
	link_give_up(sys_get(), &shard);
	assert_true(atomic_load(&page.word) & WIRE_NUDGED);
}

static void whoever_gives_up_is_not_called(void **state)
{
	(void)state;
	link_give_up(sys_get(), &shard);
	assert_false(atomic_load(&page.word) & WIRE_NUDGED);
}

/* --- the next keeper */

static int listener, client, accepted, name;
static sem_t begun, go_on;
static _Atomic bool returned;

static int joined_up(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof(in);
	struct sockaddr_un sun;

	assert_int_equal(up(state), 0);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_return_code(bind(listener, (struct sockaddr *)&in, len), errno);
	assert_return_code(listen(listener, 8), errno);
	assert_return_code(getsockname(listener, (struct sockaddr *)&in, &len), errno);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(connect(client, (struct sockaddr *)&in, len), errno);
	accepted = accept(listener, NULL, NULL);
	assert_return_code(accepted, errno);

	shard.state = SHARD_JOINED;
	shard.part = SHARD_BESIDE;
	shard.owner = getpid();
	shard.keeper_uid = (uint32_t)geteuid();
	shard.users = shard.fds = 1;
	shard.token[0] = 1;
	assert_int_equal(os_get()->cookie(sys_get(), listener, &shard.cookie), 0);
	fdtab_lock();
	assert_int_equal(fdtab_add(listener, &shard, (uintptr_t)&page), 0);
	fdtab_unlock();

	(void)snprintf(init.keeper_name, sizeof(init.keeper_name), "sockshard-test-link/%d", (int)getpid());
	name = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	len = peer_address(init.keeper_name, shard.keeper_uid, 0, &sun);
	assert_return_code(bind(name, (struct sockaddr *)&sun, len), errno);
	assert_return_code(listen(name, 8), errno);
	assert_int_equal(sem_init(&begun, 0, 0), 0);
	assert_int_equal(sem_init(&go_on, 0, 0), 0);
	atomic_store(&returned, false);
	return 0;
}

static int joined_down(void **state)
{
	fdtab_lock();
	fdtab_remove(listener);
	fdtab_unlock();
	close(name);
	close(client);
	close(accepted);
	close(listener);
	return down(state);
}

/* Answers everything on one connection, and says of what is asked that it is a nudge that brings nothing.
 * Returns how often it was asked. */
static void *be_the_keeper(void *ret)
{
	unsigned *asked = ret;
	struct wire_packet p;
	int fd = accept(name, NULL, NULL);

	while (fd >= 0 && wire_receive(sys_get(), fd, 0, &p) == 1) {
		wire_close_fds(sys_get(), &p);
		if (p.head.type == WIRE_ASK) {
			++*asked;
			p.body.given = (struct wire_given){.nudge = 1};
		} else if (p.head.type == WIRE_CLAIM) {
			memset(&p.body.joined, 0, sizeof(p.body.joined));
		}
		p.head.result = 0;
		if (wire_send(sys_get(), fd, &p, 0) < 0)
			break;
	}
	close(fd);
	return NULL;
}

static void *restore(void *sys)
{
	intptr_t r = link_restore(sys, &shard, listener);

	atomic_store(&returned, true);
	return (void *)r;
}

static void *ask_what_it_is(void *unused)
{
	intptr_t r;

	(void)unused;
	r = shard_given(sys_get(), listener, accepted, NULL, NULL, 0, 0);
	atomic_store(&returned, true);
	return (void *)r;
}

static void a_question_that_is_under_way_keeps_its_connection(void **state)
{
	pthread_t keeper, other;
	unsigned asked = 0;
	void *r;
	int fd = shard.keeper.fd;

	(void)state;
	assert_int_equal(link_take_turn(&shard), 0);
	close(keeper_end); /* its keeper has ended */
	assert_int_equal(pthread_create(&keeper, NULL, be_the_keeper, &asked), 0);
	assert_int_equal(pthread_create(&other, NULL, restore, &slow), 0);
	usleep(FROZEN_US / 2);
	assert_int_equal(shard.keeper.fd, fd);
	assert_true(atomic_load(&shard.busy));
	assert_false(atomic_load(&returned));
	link_end_turn(&shard);
	assert_int_equal(pthread_join(other, &r), 0);
	assert_int_equal((intptr_t)r, 0);
	assert_false(atomic_load(&shard.busy));
	assert_false(link_is_lost(sys_get(), &shard));
	link_close(sys_get(), &shard);
	assert_int_equal(pthread_join(keeper, NULL), 0);
	keeper_end = -1;
}

/* The first call of a new connection. */
static long call_and_wait(long number, ...)
{
	(void)number;
	sem_post(&begun);
	sem_wait(&go_on);
	errno = ENOSYS;
	return -1;
}

static void who_accepts_while_another_thread_restores_the_connection_asks_by_it(void **state)
{
	pthread_t keeper, first, second;
	unsigned asked = 0;
	void *r;

	(void)state;
	slow.syscall = call_and_wait;
	link_close(sys_get(), &shard);
	assert_int_equal(pthread_create(&keeper, NULL, be_the_keeper, &asked), 0);
	assert_int_equal(pthread_create(&first, NULL, restore, &slow), 0);
	sem_wait(&begun);
	assert_int_equal(pthread_create(&second, NULL, ask_what_it_is, NULL), 0);
	usleep(FROZEN_US / 2);
	assert_false(atomic_load(&returned)); /* as a client's */
	assert_true(atomic_load(&page.word) & WIRE_NUDGED);
	sem_post(&go_on);
	assert_int_equal(pthread_join(first, &r), 0);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(pthread_join(second, &r), 0);
	assert_int_equal((intptr_t)r, -ECANCELED);
	accepted = -1; /* swallowed */
	link_close(sys_get(), &shard);
	assert_int_equal(pthread_join(keeper, NULL), 0);
	assert_int_equal(asked, 1);
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
#define TEST(name)   cmocka_unit_test_setup_teardown(name, up, down)
#define JOINED(name) cmocka_unit_test_setup_teardown(name, joined_up, joined_down)
	const struct CMUnitTest tests[] = {
		TEST(a_thread_waits_for_the_question_of_another),
		TEST(the_next_thread_hears_that_the_connection_is_lost),
		TEST(a_call_after_the_end_of_the_connection_is_not_lost),
		TEST(whoever_finds_no_connection_leaves_the_call_as_it_is),
		TEST(whoever_gives_up_is_not_called),
		JOINED(a_question_that_is_under_way_keeps_its_connection),
		JOINED(who_accepts_while_another_thread_restores_the_connection_asks_by_it),
		TEST(a_number_that_is_somebody_elses_now_is_not_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Who is taken for stuck: keeper and shards are made by hand, the clock and the queues are ours. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <string.h>

#include "../../shim/keeper/snapshot.h"
#include "../../shim/keeper/stuck.h"

#define STUCK_MS 1000
#define LOOK_MS  (STUCK_MS / 8)
#define SHARDS   4

static struct keeper *k;
static struct wire_page pages[SHARDS];
static unsigned queues[SHARDS];

static int fake_queue(const struct sys *sys, int fd, unsigned *ret_waiting, unsigned *ret_backlog)
{
	(void)sys;
	*ret_waiting = queues[-2 - fd]; /* no descriptors: nothing can be attached or probed */
	*ret_backlog = 128;
	return 0;
}

static int fake_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	assert_int_equal(timeout_ms, 0);
	for (nfds_t i = 0; i < n; i++) /* a shard's socket; not a nudge that is being made */
		fds[i].revents = fds[i].fd <= -2 && queues[-2 - fds[i].fd] > 0 ? POLLIN : 0;
	return 0;
}

static int set_up(void **state)
{
	static struct os os;
	static struct sys sys;

	(void)state;
	memset(pages, 0, sizeof(pages));
	memset(queues, 0, sizeof(queues));
	os = *os_get();
	os.queue = fake_queue;
	k = snapshot_new(snapshot_make()); /* the ways that lead to a shard commit */
	assert_non_null(k);
	sys = *sys_get();
	sys.poll = fake_poll;
	k->sys = &sys;
	k->os = &os;
	k->now = 1000000;
	k->listener = k->epoll = k->diag = NONE;
	k->group_top = 1;
	k->member_top = SHARDS;
	k->groups[0] = (struct group){.used = true, .stuck_ms = STUCK_MS, .steered = true};
	bucket_init(&k->groups[0].table);
	k->groups[0].addr = (struct addr){.proto = IPPROTO_TCP, .family = AF_INET, .port = 1};
	for (int i = 0; i < SHARDS; i++)
		k->members[i] = (struct member){
			.used = true, .slot = (uint32_t)i, .weight = 1, .fd = -2 - i,
			.state = WIRE_LIVE, .watch_at = NEVER, .page.at = &pages[i]};
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < SHARDS; i++)
		k->members[i].page.at = NULL;
	snapshot_drop(k);
	return 0;
}

static void accepts(int shard)
{
	pages[shard].word += WIRE_ONE;
}

static void time_passes(int64_t ms)
{
	k->now += ms;
	stuck_on_time(k);
}

/* Looks that come in time, while the others accept and have nobody waiting. */
static void others_work(int64_t ms)
{
	for (int64_t end = k->now + ms; k->now < end;) {
		for (int i = 1; i < SHARDS; i++)
			accepts(i);
		time_passes(LOOK_MS);
	}
}

/* All are quick: more than one from look to look. */
static void first_accepts(void)
{
	time_passes(0);
	for (int i = 0; i < SHARDS; i++) {
		accepts(i);
		accepts(i);
	}
	time_passes(LOOK_MS);
}

static void who_accepts_nothing_while_others_are_idle_is_stuck(void **state)
{
	(void)state;
	first_accepts();
	queues[0] = 3;
	others_work(STUCK_MS - 2 * LOOK_MS);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
	others_work(4 * LOOK_MS);
	assert_int_equal(k->members[0].state, WIRE_STUCK);
}

static void who_is_as_slow_as_ever_is_not_stuck(void **state)
{
	(void)state;
	time_passes(0);
	queues[0] = 3;
	for (int i = 0; i < 10; i++) { /* from the first one on */
		accepts(0);
		others_work(STUCK_MS * 3 / 2);
		assert_int_equal(k->members[0].state, WIRE_LIVE);
	}
	accepts(0);
	others_work(STUCK_MS * 5 / 2);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
	others_work(STUCK_MS);
	assert_int_equal(k->members[0].state, WIRE_STUCK);
}

static void who_had_to_wait_for_half_of_it_tells_of_all_of_it(void **state)
{
	(void)state;
	time_passes(0);
	for (int i = 0; i < 10; i++) {
		accepts(0);
		queues[0] = 0;
		others_work(STUCK_MS);
		queues[0] = 1;
		others_work(STUCK_MS / 2);
	}
	accepts(0);
	others_work(STUCK_MS * 5 / 2);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
}

/* Shards 2 and 3 have come just now, 0 and 1 were there before. */
static void workers_come(int64_t older_by)
{
	first_accepts();
	for (int i = 0; i < SHARDS; i++) {
		k->now += i == 2 ? older_by : 0;
		stuck_claimed(k, i);
	}
	queues[0] = 3;
}

static void accepts_all_but_the_first(int64_t ms)
{
	for (int64_t end = k->now + ms; k->now < end;) {
		for (int i = 1; i < SHARDS; i++)
			accepts(i);
		time_passes(6);
	}
}

static void in_a_reload_an_older_worker_is_given_up_soon(void **state)
{
	(void)state;
	workers_come(2000);
	accepts_all_but_the_first(24);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
	accepts_all_but_the_first(120);
	assert_int_equal(k->members[0].state, WIRE_STUCK);
	accepts(0);
	accepts_all_but_the_first(30);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
}

static void workers_that_come_together_are_no_reload(void **state)
{
	(void)state;
	workers_come(500);
	accepts_all_but_the_first(STUCK_MS / 2);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
}

static void a_worker_that_takes_the_place_of_one_is_no_reload(void **state)
{
	(void)state;
	workers_come(500);
	k->now += 5000;
	stuck_claimed(k, 3);
	queues[0] = 0;
	accepts_all_but_the_first(24);
	queues[0] = 3;
	accepts_all_but_the_first(STUCK_MS / 2);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
}

static void after_ten_seconds_a_reload_is_over(void **state)
{
	(void)state;
	workers_come(2000);
	queues[0] = 0;
	for (int i = 0; i < 100; i++) {
		accepts(0);
		accepts(0);
		accepts_all_but_the_first(12);
		k->now += 100;
	}
	queues[0] = 3;
	accepts_all_but_the_first(STUCK_MS / 2);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
}

static void one_that_accepted_long_ago_does_not_prove_that_others_are_idle(void **state)
{
	(void)state;
	k->member_top = 2;
	first_accepts();
	queues[0] = 3;
	time_passes(LOOK_MS);
	accepts(1);
	for (int i = 0; i < 10; i++)
		time_passes(LOOK_MS);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
}

static void a_late_look_takes_off_what_it_is_late(void **state)
{
	(void)state;
	first_accepts();
	queues[0] = 3;
	others_work(STUCK_MS / 2);
	for (int i = 1; i < SHARDS; i++)
		accepts(i);
	time_passes(10 * STUCK_MS); /* the machine stood still */
	assert_int_equal(k->members[0].state, WIRE_LIVE);
	others_work(STUCK_MS / 4);
	assert_int_equal(k->members[0].state, WIRE_LIVE);
	others_work(STUCK_MS / 2);
	assert_int_equal(k->members[0].state, WIRE_STUCK); /* and not from the beginning again */
}

#define STUCK_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STUCK_TEST(who_accepts_nothing_while_others_are_idle_is_stuck),
		STUCK_TEST(who_is_as_slow_as_ever_is_not_stuck),
		STUCK_TEST(who_had_to_wait_for_half_of_it_tells_of_all_of_it),
		STUCK_TEST(in_a_reload_an_older_worker_is_given_up_soon),
		STUCK_TEST(workers_that_come_together_are_no_reload),
		STUCK_TEST(a_worker_that_takes_the_place_of_one_is_no_reload),
		STUCK_TEST(after_ten_seconds_a_reload_is_over),
		STUCK_TEST(one_that_accepted_long_ago_does_not_prove_that_others_are_idle),
		STUCK_TEST(a_late_look_takes_off_what_it_is_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

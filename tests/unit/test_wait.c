/* Looking before sleeping: when it is done, and when it is left out. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "../../shim/keeper/wait.h"

static struct keeper *k;
static int ends[2];

static int up(void **state)
{
	struct epoll_event e = { .events = EPOLLIN };

	(void)state;
	k = calloc(1, sizeof(*k));
	assert_non_null(k);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(epoll_ctl(k->epoll, EPOLL_CTL_ADD, ends[0], &e), 0);
	return 0;
}

static int down(void **state)
{
	(void)state;
	close(k->epoll);
	close(ends[0]);
	close(ends[1]);
	free(k);
	return 0;
}

static int wait_soon(void)
{
	struct epoll_event e;

	k->soon = true;
	return wait_events(k, &e, 1, 1);
}

static void what_is_not_expected_soon_is_slept_for(void **state)
{
	struct epoll_event e;

	(void)state;
	assert_int_equal(wait_events(k, &e, 1, 1), 0);
	assert_int_equal(k->spins_missed, 0);
}

static void a_look_that_was_of_no_use_leaves_out_four_times_as_many_of_the_next(void **state)
{
	(void)state;
	assert_int_equal(wait_soon(), 0);
	assert_false(k->soon);
	for (unsigned left_out = 3; left_out > 0; left_out--) {
		assert_int_equal(k->spins_left_out, left_out);
		assert_int_equal(wait_soon(), 0);
	}
	assert_int_equal(wait_soon(), 0);
	assert_int_equal(k->spins_left_out, 15);
	for (int i = 0; i < 300; i++)
		(void)wait_soon();
	assert_in_range(k->spins_left_out, 0, 1023);
}

/* Found at once or, where this thread lost its CPU in between, all the same: an event is never dropped. */
static void an_event_is_told_whether_it_is_looked_for_or_slept_for(void **state)
{
	(void)state;
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(wait_soon(), 1);
	k->spins_left_out = 5;
	assert_int_equal(wait_soon(), 1);
	assert_int_equal(k->spins_left_out, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_not_expected_soon_is_slept_for, up, down),
		cmocka_unit_test_setup_teardown(
			a_look_that_was_of_no_use_leaves_out_four_times_as_many_of_the_next, up, down),
		cmocka_unit_test_setup_teardown(an_event_is_told_whether_it_is_looked_for_or_slept_for,
		                                up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

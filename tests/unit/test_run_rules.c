/* cli/run_rules.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>

#include "../../shim/cli/run_rules.h"

#define EXITED(code) ((code) << 8) /* as wait(2) has it on every system */
#define KILLED(sig)  (sig)

static enum run_next ended(struct run_history *h, enum run_restart restart, int status,
			   int64_t *ret_delay_ms)
{
	*ret_delay_ms = -1;
	return run_rules_ended(h, restart, status, ret_delay_ms);
}

static void a_joined_copy_comes_back_at_once_however_often(void **state)
{
	struct run_history h = {0};
	int64_t delay;
	int i;

	(void)state;
	for (i = 0; i < 100; i++) {
		h.joined = h.ever = true;
		assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, KILLED(SIGKILL), &delay), RUN_AGAIN);
		assert_int_equal(delay, 0);
		assert_false(h.joined);
	}
}

static void a_copy_that_never_joined_stops_all(void **state)
{
	struct run_history h = {0};
	int64_t delay;

	(void)state;
	assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, EXITED(1), &delay), RUN_STOP_ALL);
	assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, EXITED(0), &delay), RUN_STOP_ALL);
	assert_int_equal(ended(&h, RUN_RESTART_NO, KILLED(SIGSEGV), &delay), RUN_STOP_ALL);
	assert_int_equal(ended(&h, RUN_RESTART_ON_FAILURE, EXITED(2), &delay), RUN_STOP_ALL);
}

static void a_restart_that_does_not_come_up_waits_longer_each_time(void **state)
{
	static const int64_t delays[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000};
	struct run_history h = {.ever = true};
	int64_t delay;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
		assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, EXITED(1), &delay), RUN_AGAIN);
		assert_int_equal(delay, delays[i]);
	}
	h.joined = true; /* it came up, and ended: at once, and the next waits little again */
	assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, EXITED(1), &delay), RUN_AGAIN);
	assert_int_equal(delay, 0);
	assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, EXITED(1), &delay), RUN_AGAIN);
	assert_int_equal(delay, 100);
}

static void on_failure_lets_a_clean_end_be(void **state)
{
	struct run_history h = {.ever = true, .joined = true};
	int64_t delay;

	(void)state;
	assert_int_equal(ended(&h, RUN_RESTART_ON_FAILURE, EXITED(0), &delay), RUN_GIVE_UP);
	h.joined = true;
	assert_int_equal(ended(&h, RUN_RESTART_ON_FAILURE, EXITED(1), &delay), RUN_AGAIN);
	h.joined = true;
	assert_int_equal(ended(&h, RUN_RESTART_ON_FAILURE, KILLED(SIGTERM), &delay), RUN_AGAIN);
	h.joined = true;
	assert_int_equal(ended(&h, RUN_RESTART_ALWAYS, EXITED(0), &delay), RUN_AGAIN);
}

static void restart_no_gives_up_each(void **state)
{
	struct run_history h = {.ever = true, .joined = true};
	int64_t delay;

	(void)state;
	assert_int_equal(ended(&h, RUN_RESTART_NO, EXITED(3), &delay), RUN_GIVE_UP);
	assert_int_equal(ended(&h, RUN_RESTART_NO, EXITED(0), &delay), RUN_GIVE_UP);
}

static void the_backoff_stays_at_five_seconds(void **state)
{
	(void)state;
	assert_int_equal(run_rules_backoff(1), 100);
	assert_int_equal(run_rules_backoff(2), 200);
	assert_int_equal(run_rules_backoff(6), 3200);
	assert_int_equal(run_rules_backoff(7), 5000);
	assert_int_equal(run_rules_backoff(1000000), 5000);
}

static void a_status_is_told_as_a_shell_does(void **state)
{
	char text[64];

	(void)state;
	assert_int_equal(run_rules_exit(EXITED(0)), 0);
	assert_int_equal(run_rules_exit(EXITED(255)), 255);
	assert_int_equal(run_rules_exit(KILLED(SIGKILL)), 137);
	assert_int_equal(run_rules_exit(KILLED(SIGSEGV) | 0x80), 139); /* with a core */
	assert_string_equal(run_rules_text(EXITED(3), text, sizeof(text)), "ended with status 3");
	assert_string_equal(run_rules_text(KILLED(9), text, sizeof(text)), "killed by signal 9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_joined_copy_comes_back_at_once_however_often),
		cmocka_unit_test(a_copy_that_never_joined_stops_all),
		cmocka_unit_test(a_restart_that_does_not_come_up_waits_longer_each_time),
		cmocka_unit_test(on_failure_lets_a_clean_end_be),
		cmocka_unit_test(restart_no_gives_up_each),
		cmocka_unit_test(the_backoff_stays_at_five_seconds),
		cmocka_unit_test(a_status_is_told_as_a_shell_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

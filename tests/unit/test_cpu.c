/* steer/cpu.c: slot k has the range of number k, and the ranges of the others while they are away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "../../shim/steer/cpu.h"

static struct bucket_table table;

static int fresh(void **state)
{
	(void)state;
	bucket_init(&table);
	return 0;
}

static struct bucket_slot slot(unsigned number, bool live)
{
	return (struct bucket_slot){.slot = (uint16_t)number, .weight = 1, .live = live};
}

/* Whose are the buckets of a range: how many of them this slot's? */
static unsigned count_in(unsigned range, unsigned cpus, unsigned number)
{
	unsigned width = cpu_range(&table, cpus);
	unsigned count = 0;

	for (unsigned b = range * width; b < (range + 1) * width; b++)
		count += table.owner[b] == number;
	return count;
}

static void each_slot_owns_the_range_of_its_number_in_any_order(void **state)
{
	const struct bucket_slot slots[] = {slot(2, true), slot(0, true), slot(1, true)};

	(void)state;
	assert_int_equal(cpu_deal(&table, slots, 3), 3);
	assert_int_equal(cpu_range(&table, 3), 85);
	for (unsigned s = 0; s < 3; s++) {
		assert_int_equal(count_in(s, 3, s), 85);
		assert_int_equal(bucket_count(&table, (uint16_t)s), 85);
	}
	assert_int_equal(table.owner[255], BUCKET_NONE); /* 3 * 85 are used */
}

static void the_range_of_a_dead_slot_is_dealt_evenly_and_given_back(void **state)
{
	struct bucket_slot slots[] = {slot(0, true), slot(1, true), slot(2, true), slot(3, true)};
	struct bucket_table before;

	(void)state;
	assert_int_equal(cpu_deal(&table, slots, 4), 4);
	before = table;
	slots[1].live = false;
	assert_int_equal(cpu_deal(&table, slots, 4), 4);
	for (unsigned s = 0; s < 4; s++) {
		assert_int_equal(count_in(s, 4, s), s == 1 ? 0 : 64);
		if (s != 1)
			assert_in_range(count_in(1, 4, s), 21, 22);
	}
	slots[1].live = true;
	assert_int_equal(cpu_deal(&table, slots, 4), 4);
	assert_memory_equal(&table, &before, sizeof(table));
}

static void a_number_that_nobody_has_is_dealt_as_that_of_a_dead_slot(void **state)
{
	const struct bucket_slot slots[] = {slot(3, true), slot(1, true)};

	(void)state;
	assert_int_equal(cpu_deal(&table, slots, 2), 4);
	assert_int_equal(count_in(1, 4, 1), 64);
	assert_int_equal(count_in(3, 4, 3), 64);
	assert_int_equal(count_in(0, 4, 1), 32);
	assert_int_equal(count_in(0, 4, 3), 32);
	assert_int_equal(count_in(2, 4, 1), 32);
	assert_int_equal(table.home[0], BUCKET_NONE);
}

static void while_all_are_dead_each_keeps_its_own(void **state)
{
	const struct bucket_slot slots[] = {slot(0, false), slot(1, false)};

	(void)state;
	assert_int_equal(cpu_deal(&table, slots, 2), 2);
	assert_int_equal(count_in(0, 2, 0), 128);
	assert_int_equal(count_in(1, 2, 1), 128);
}

static void weight_0_counts_only_when_nobody_has_more(void **state)
{
	struct bucket_slot slots[] = {slot(0, true), slot(1, true)};

	(void)state;
	slots[1].weight = 0;
	assert_int_equal(cpu_deal(&table, slots, 2), 2);
	assert_int_equal(bucket_count(&table, 0), 256);
	slots[0].weight = 0;
	assert_int_equal(cpu_deal(&table, slots, 2), 2);
	assert_int_equal(bucket_count(&table, 1), 128);
}

static void the_table_grows_until_a_dead_slots_range_can_be_cut_in_four(void **state)
{
	struct bucket_slot slots[300];

	(void)state;
	for (unsigned s = 0; s < 300; s++)
		slots[s] = slot(s, s != 7);
	assert_int_equal(cpu_deal(&table, slots, 100), 100);
	assert_int_equal(table.n, 512);
	assert_int_equal(cpu_deal(&table, slots, 300), 300);
	assert_int_equal(table.n, 1024);
	assert_int_equal(count_in(7, 300, 7), 0);
	assert_int_equal(count_in(8, 300, 8), 3);
}

static void the_highest_slot_there_can_be_is_dealt_and_the_next_refused(void **state)
{
	struct bucket_slot one = slot(BUCKETS_MAX - 1, true);

	(void)state;
	assert_int_equal(cpu_deal(&table, &one, 1), BUCKETS_MAX);
	assert_int_equal(bucket_count(&table, BUCKETS_MAX - 1), BUCKETS_MAX);
	one.slot = BUCKETS_MAX;
	assert_int_equal(cpu_deal(&table, &one, 1), -EINVAL);
	assert_int_equal(cpu_deal(&table, NULL, 0), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, fresh)
	const struct CMUnitTest tests[] = {
		TEST(each_slot_owns_the_range_of_its_number_in_any_order),
		TEST(the_range_of_a_dead_slot_is_dealt_evenly_and_given_back),
		TEST(a_number_that_nobody_has_is_dealt_as_that_of_a_dead_slot),
		TEST(while_all_are_dead_each_keeps_its_own),
		TEST(weight_0_counts_only_when_nobody_has_more),
		TEST(the_table_grows_until_a_dead_slots_range_can_be_cut_in_four),
		TEST(the_highest_slot_there_can_be_is_dealt_and_the_next_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

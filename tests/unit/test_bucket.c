/* The table of a group: examples. */
#include "bucket_fixture.h"

#include <errno.h>

static void a_new_table_is_owned_by_nobody(void **state)
{
	struct bucket_table t;

	(void)state;
	bucket_init(&t);
	assert_int_equal(t.n, BUCKETS_MIN);
	assert_int_equal(bucket_count(&t, BUCKET_NONE), BUCKETS_MIN);
	assert_int_equal(homes(&t, BUCKET_NONE), BUCKETS_MIN);
}

static void the_bucket_is_the_top_bits_of_the_hash(void **state)
{
	struct bucket_table t;

	(void)state;
	bucket_init(&t);
	assert_int_equal(bucket_of_hash(&t, 0), 0);
	assert_int_equal(bucket_of_hash(&t, 0x00ffffff), 0);
	assert_int_equal(bucket_of_hash(&t, 0x01000000), 1);
	assert_int_equal(bucket_of_hash(&t, 0xffffffff), 255);
	t.n = 1024;
	assert_int_equal(bucket_of_hash(&t, 0x00400000), 1);
	assert_int_equal(bucket_of_hash(&t, 0xffffffff), 1023);
}

static void a_first_deal_makes_one_range_per_slot(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	assert_int_equal(deal(&w), 256);
	assert_int_equal(ranges(&w.table), 4);
	for (uint16_t i = 0; i < 4; i++)
		assert_int_equal(bucket_count(&w.table, i), 64);
}

static void a_death_moves_only_its_own_and_spreads_them(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	deal(&w);
	before = w.table;
	w.slots[2].live = false;
	assert_int_equal(deal(&w), 64);
	for (unsigned b = 0; b < 256; b++)
		assert_true(before.owner[b] == 2 || w.table.owner[b] == before.owner[b]);
	assert_int_equal(bucket_count(&w.table, 0), 86);
	assert_int_equal(bucket_count(&w.table, 1), 85);
	assert_int_equal(bucket_count(&w.table, 3), 85);
	/* 1 and 3 grow into the gap; only 0, which is not beside it, needs one range more */
	assert_int_equal(ranges(&w.table), 4);
	w.slots[2].live = true;
	assert_int_equal(deal(&w), 64);
	assert_memory_equal(&w.table, &before, sizeof(before));
}

static void both_neighbours_grow_into_a_gap(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 3);
	deal(&w);
	w.slots[0].live = false;
	deal(&w);
	/* the gap is at the edge: 1, on its right, grows, 2 gets what is left of it */
	assert_int_equal(ranges(&w.table), 3);
	assert_int_equal(w.table.owner[0], 2);
}

static void a_fifth_slot_takes_a_fifth(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 5);
	w.n = 4;
	deal(&w);
	before = w.table;
	w.n = 5;
	assert_int_equal(deal(&w), 51);
	for (unsigned b = 0; b < 256; b++)
		assert_true(w.table.owner[b] == 4 || w.table.owner[b] == before.owner[b]);
}

static void a_slot_gone_for_good_leaves_its_buckets_where_they_are(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	deal(&w);
	w.slots[3].live = false;
	deal(&w);
	before = w.table;
	w.n = 3;
	assert_int_equal(deal(&w), 0);
	assert_memory_equal(w.table.owner, before.owner, sizeof(before.owner));
	assert_memory_equal(w.table.home, w.table.owner, 256 * sizeof(uint16_t));
}

static void after_two_deaths_a_leave_moves_only_what_the_third_lacks(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	deal(&w);
	w.slots[1].live = false;
	deal(&w);
	w.slots[3].live = false;
	deal(&w);
	w.slots[1].live = true;
	deal(&w);
	assert_int_equal(bucket_count(&w.table, 1), 64);
	assert_int_equal(bucket_count(&w.table, 0) + bucket_count(&w.table, 2), 192);
	w.n = 3;
	assert_int_equal(deal(&w), 22);
	assert_in_range(bucket_count(&w.table, 1), 85, 86);
}

/* Four workers give way to four others, one of those ends, and a new one comes to a slot that was left. */
static void what_was_anybodys_makes_the_share_of_a_newcomer_even(void **state)
{
	struct bucket_table before;
	struct world w = {.n = 0};

	(void)state;
	equal_slots(&w, 8);
	for (size_t i = 0; i < 8; i++)
		w.slots[i].anybodys = true;
	(void)deal(&w);
	for (size_t i = 0; i < 5; i++)
		w.slots[i].live = false;
	(void)deal(&w);
	before = w.table;
	w.slots[0].live = true;
	assert_in_range(deal(&w), 64, 96); /* 64 to the newcomer, and what its home took from one alone */
	for (uint16_t s = 5; s < 8; s++)
		assert_int_equal(bucket_count(&w.table, s), 64);
	assert_int_equal(bucket_count(&w.table, 0), 64);
	for (int b = 0; b < w.table.n; b++) {
		assert_int_equal(w.table.home[b], before.home[b]);
		if (w.table.home[b] == w.table.owner[b] && w.table.home[b] != 0)
			assert_int_equal(before.owner[b], w.table.owner[b]);
	}
	assert_int_equal(deal(&w), 0);
	w.slots[1].live = w.slots[2].live = w.slots[3].live = w.slots[4].live = true;
	(void)deal(&w);
	for (int b = 0; b < w.table.n; b++)
		assert_int_equal(w.table.owner[b], w.table.home[b]);
}

/* A copy that crashed is expected back: what it had is not moved once more. */
static void without_that_a_slot_that_comes_back_gets_its_home_alone(void **state)
{
	struct world w = {.n = 0};

	(void)state;
	equal_slots(&w, 4);
	(void)deal(&w);
	w.slots[0].live = w.slots[1].live = false;
	(void)deal(&w);
	w.slots[0].live = true;
	assert_int_equal(deal(&w), 64);
	assert_int_equal(bucket_count(&w.table, 0), 64);
	assert_int_equal(bucket_count(&w.table, 1), 0);
}

static void weights_give_shares(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 3);
	w.slots[0].weight = 2;
	w.slots[2].weight = 5;
	deal(&w);
	assert_int_equal(bucket_count(&w.table, 0), 64);
	assert_int_equal(bucket_count(&w.table, 1), 32);
	assert_int_equal(bucket_count(&w.table, 2), 160);
}

static void a_changed_weight_moves_the_difference(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	deal(&w);
	w.slots[0].weight = 5;
	assert_int_equal(deal(&w), 96);
	assert_int_equal(bucket_count(&w.table, 0), 160);
	assert_int_equal(bucket_count(&w.table, 1), 32);
	assert_int_equal(deal(&w), 0);
}

static void the_smallest_weight_still_gets_a_bucket(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	for (size_t i = 0; i < 4; i++)
		w.slots[i].weight = i < 3 ? 1000 : 1;
	w.n = 3;
	deal(&w);
	w.n = 4;
	assert_int_equal(deal(&w), 1);
	assert_int_equal(bucket_count(&w.table, 3), 1);
	assert_int_equal(deal(&w), 0);
}

static void weight_0_owns_only_when_alone(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 4);
	w.slots[0].weight = w.slots[1].weight = 0;
	deal(&w);
	before = w.table;
	assert_int_equal(bucket_count(&w.table, 0) + bucket_count(&w.table, 1), 0);
	w.slots[2].live = w.slots[3].live = false;
	assert_int_equal(deal(&w), 256);
	assert_int_equal(bucket_count(&w.table, 0), 128);
	assert_int_equal(bucket_count(&w.table, 1), 128);
	w.slots[3].live = true;
	deal(&w);
	assert_int_equal(bucket_count(&w.table, 3), 256);
	w.slots[2].live = true;
	deal(&w);
	assert_memory_equal(&w.table, &before, sizeof(before));
}

static void weight_0_gives_everything_to_a_newcomer(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 2);
	w.slots[0].weight = 0;
	w.n = 1;
	deal(&w);
	assert_int_equal(bucket_count(&w.table, 0), 256);
	w.n = 2;
	assert_int_equal(deal(&w), 256);
	assert_int_equal(homes(&w.table, 1), 256);
}

static void with_all_weights_0_all_are_equal(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 2);
	w.slots[0].weight = w.slots[1].weight = 0;
	deal(&w);
	assert_int_equal(bucket_count(&w.table, 0), 128);
	assert_int_equal(bucket_count(&w.table, 1), 128);
}

static void with_no_live_slot_the_owners_stay(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 3);
	deal(&w);
	before = w.table;
	for (size_t i = 0; i < 3; i++)
		w.slots[i].live = false;
	assert_int_equal(deal(&w), 0);
	assert_memory_equal(&w.table, &before, sizeof(before));
	w.n = 0;
	assert_int_equal(deal(&w), 0);
	assert_memory_equal(w.table.owner, before.owner, sizeof(before.owner));
	assert_int_equal(homes(&w.table, BUCKET_NONE), 256);
}

static void more_slots_double_the_buckets_and_move_only_the_share(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 300);
	w.n = 64;
	deal(&w);
	assert_int_equal(w.table.n, 256);
	before = w.table;
	w.n = 65;
	assert_int_equal(deal(&w), 7);
	assert_int_equal(w.table.n, 512);
	for (unsigned b = 0; b < 512; b++)
		assert_true(w.table.owner[b] == 64 || w.table.owner[b] == before.owner[b / 2]);
	w.n = 300;
	deal(&w);
	assert_int_equal(w.table.n, BUCKETS_MAX);
	for (uint16_t i = 0; i < 300; i++)
		assert_in_range(bucket_count(&w.table, i), 3, 4);
}

static void a_thousand_and_24_slots_have_one_bucket_each(void **state)
{
	static struct bucket_slot slots[BUCKETS_MAX + 1];
	struct bucket_table t;

	(void)state;
	for (unsigned i = 0; i <= BUCKETS_MAX; i++)
		slots[i] = (struct bucket_slot){.slot = (uint16_t)i, .weight = 1, .live = true};
	bucket_init(&t);
	assert_int_equal(bucket_deal(&t, slots, BUCKETS_MAX), BUCKETS_MAX);
	for (uint16_t i = 0; i < BUCKETS_MAX; i++)
		assert_int_equal(bucket_count(&t, i), 1);
	assert_int_equal(bucket_deal(&t, slots, BUCKETS_MAX + 1), -EINVAL);
}

static void a_bad_list_is_refused_and_changes_nothing(void **state)
{
	struct bucket_table before;
	struct world w;

	(void)state;
	equal_slots(&w, 3);
	deal(&w);
	before = w.table;
	w.slots[2].slot = 0;
	assert_int_equal(deal(&w), -EINVAL);
	w.slots[2].slot = BUCKET_NONE;
	assert_int_equal(deal(&w), -EINVAL);
	assert_memory_equal(&w.table, &before, sizeof(before));
}

static void growth_to_64_one_by_one_stays_below_190_ranges(void **state)
{
	struct world w;

	(void)state;
	equal_slots(&w, 64);
	for (w.n = 1; w.n <= 64; w.n++)
		deal(&w);
	print_message("64 slots grown one by one: %u ranges\n", ranges(&w.table));
	assert_true(ranges(&w.table) < 190);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_table_is_owned_by_nobody),
		cmocka_unit_test(the_bucket_is_the_top_bits_of_the_hash),
		cmocka_unit_test(a_first_deal_makes_one_range_per_slot),
		cmocka_unit_test(a_death_moves_only_its_own_and_spreads_them),
		cmocka_unit_test(both_neighbours_grow_into_a_gap),
		cmocka_unit_test(a_fifth_slot_takes_a_fifth),
		cmocka_unit_test(a_slot_gone_for_good_leaves_its_buckets_where_they_are),
		cmocka_unit_test(after_two_deaths_a_leave_moves_only_what_the_third_lacks),
		cmocka_unit_test(what_was_anybodys_makes_the_share_of_a_newcomer_even),
		cmocka_unit_test(without_that_a_slot_that_comes_back_gets_its_home_alone),
		cmocka_unit_test(weights_give_shares),
		cmocka_unit_test(a_changed_weight_moves_the_difference),
		cmocka_unit_test(the_smallest_weight_still_gets_a_bucket),
		cmocka_unit_test(weight_0_owns_only_when_alone),
		cmocka_unit_test(weight_0_gives_everything_to_a_newcomer),
		cmocka_unit_test(with_all_weights_0_all_are_equal),
		cmocka_unit_test(with_no_live_slot_the_owners_stay),
		cmocka_unit_test(more_slots_double_the_buckets_and_move_only_the_share),
		cmocka_unit_test(a_thousand_and_24_slots_have_one_bucket_each),
		cmocka_unit_test(a_bad_list_is_refused_and_changes_nothing),
		cmocka_unit_test(growth_to_64_one_by_one_stays_below_190_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The table of a group: examples, then rules that must hold at every step of random histories. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../shim/steer/bucket.h"

#define SLOTS_MAX 300

struct world {
	struct bucket_table table;
	struct bucket_slot slots[SLOTS_MAX];
	size_t n;
	uint64_t random;
	uint64_t seed;
	unsigned step;
	bool weighted;
};

#define check(w, what)                                                                             \
	do {                                                                                       \
		if (!(what))                                                                       \
			fail_msg("%s (SOCKSHARD_TEST_SEED=%llu, step %u)", #what,                  \
				 (unsigned long long)(w)->seed, (w)->step);                        \
	} while (0)

static uint32_t draw(struct world *w, uint32_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random >> 32) % below;
}

static uint64_t first_seed(void)
{
	const char *text = getenv("SOCKSHARD_TEST_SEED");

	return text ? strtoull(text, NULL, 10) : 5500;
}

static void equal_slots(struct world *w, size_t n)
{
	bucket_init(&w->table);
	w->n = n;
	for (size_t i = 0; i < n; i++)
		w->slots[i] = (struct bucket_slot){.slot = (uint16_t)i, .weight = 1, .live = true};
}

static int deal(struct world *w)
{
	return bucket_deal(&w->table, w->slots, w->n);
}

static unsigned ranges(const struct bucket_table *t)
{
	unsigned n = 1;

	for (unsigned b = 1; b < t->n; b++)
		n += t->owner[b] != t->owner[b - 1];
	return n;
}

static unsigned homes(const struct bucket_table *t, uint16_t slot)
{
	unsigned n = 0;

	for (unsigned b = 0; b < t->n; b++)
		n += t->home[b] == slot;
	return n;
}

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

/* --- random histories */

static struct bucket_slot *find(struct world *w, uint16_t slot)
{
	for (size_t i = 0; i < w->n; i++) {
		if (w->slots[i].slot == slot)
			return &w->slots[i];
	}
	return NULL;
}

static unsigned count_live(const struct world *w)
{
	unsigned n = 0;

	for (size_t i = 0; i < w->n; i++)
		n += w->slots[i].live;
	return n;
}

static void shuffle(struct world *w)
{
	for (size_t i = w->n; i > 1; i--) {
		size_t j = draw(w, (uint32_t)i);
		struct bucket_slot s = w->slots[i - 1];

		w->slots[i - 1] = w->slots[j];
		w->slots[j] = s;
	}
}

/* The table as it would be if only its size had changed. */
static struct bucket_table resized(const struct bucket_table *old, uint16_t n)
{
	struct bucket_table t = {.n = n};

	for (unsigned b = 0; b < n; b++) {
		t.owner[b] = old->owner[b * old->n / n];
		t.home[b] = old->home[b * old->n / n];
	}
	return t;
}

/* Shares below one bucket are rounded up, which the others pay for. */
static bool near_share(const struct world *w, unsigned count, unsigned weight, double slack)
{
	double total = 0, share;

	for (size_t i = 0; i < w->n; i++)
		total += w->slots[i].weight;
	for (size_t i = 0; i < w->n; i++)
		slack += w->table.n * w->slots[i].weight / total < 1;
	share = w->table.n * weight / total;
	return count > 0 && count > share - slack && count < share + slack;
}

/* What holds after every deal, whatever came before. */
static void check_always(struct world *w)
{
	struct bucket_table again;
	unsigned least = BUCKETS_MAX, most = 0;

	for (unsigned b = 0; b < w->table.n; b++) {
		struct bucket_slot *home = find(w, w->table.home[b]);
		struct bucket_slot *owner = find(w, w->table.owner[b]);

		check(w, home != NULL);
		check(w, !count_live(w) || (owner && owner->live));
		check(w, !home->live || owner == home);
	}
	for (size_t i = 0; i < w->n; i++) {
		unsigned count = homes(&w->table, w->slots[i].slot);

		least = count < least ? count : least;
		most = count > most ? count : most;
		check(w, !w->weighted || near_share(w, count, w->slots[i].weight, 2));
	}
	check(w, w->weighted || most - least <= 1);
	again = w->table;
	shuffle(w);
	check(w, deal(w) == 0);
	check(w, memcmp(&again, &w->table, sizeof(again)) == 0);
}

/* A death or leave: only buckets that had to do with the slot move. */
static void check_gone(struct world *w, const struct bucket_table *old, uint16_t slot, bool died)
{
	if (!count_live(w))
		return;
	for (unsigned b = 0; b < w->table.n; b++) {
		bool moved = w->table.owner[b] != old->owner[b];
		bool was_home = old->home[b] == slot;

		check(w, !moved || old->owner[b] == slot || (!died && was_home));
		check(w, w->table.home[b] == old->home[b] || (!died && was_home));
	}
}

static void check_returned(struct world *w, const struct bucket_table *old, uint16_t slot)
{
	if (count_live(w) == 1)
		return;
	for (unsigned b = 0; b < w->table.n; b++) {
		uint16_t expected = old->home[b] == slot ? slot : old->owner[b];

		check(w, w->table.owner[b] == expected);
		check(w, w->table.home[b] == old->home[b]);
	}
}

static void check_joined(struct world *w, const struct bucket_table *old, uint16_t slot)
{
	check(w, near_share(w, homes(&w->table, slot), find(w, slot)->weight, 1));
	if (count_live(w) == 1)
		return;
	check(w, bucket_count(&w->table, slot) == homes(&w->table, slot));
	for (unsigned b = 0; b < w->table.n; b++) {
		check(w, w->table.owner[b] == old->owner[b] || w->table.owner[b] == slot);
		check(w, w->table.home[b] == old->home[b] || w->table.home[b] == slot);
	}
}

static uint16_t join(struct world *w)
{
	struct bucket_slot s = {.weight = 1, .live = true};

	do
		s.slot = (uint16_t)draw(w, 1000);
	while (find(w, s.slot));
	if (w->weighted)
		s.weight = (uint16_t)(1 + draw(w, draw(w, 2) ? 4 : 1000));
	w->slots[w->n++] = s;
	return s.slot;
}

static void random_step(struct world *w, unsigned slots_max)
{
	struct bucket_table old = w->table;
	unsigned what = draw(w, 5), changed = 0;
	struct bucket_slot *s = w->n ? &w->slots[draw(w, (uint32_t)w->n)] : NULL;
	uint16_t slot = s ? s->slot : 0;
	bool joins = !s || (what == 0 && w->n < slots_max);
	bool leaves = !joins && what == 1 && w->n > 1;
	int moved;

	if (joins)
		slot = join(w);
	else if (leaves)
		*s = w->slots[--w->n];
	else
		s->live = !s->live;
	moved = deal(w);
	old = resized(&old, w->table.n);
	for (unsigned b = 0; b < w->table.n; b++)
		changed += w->table.owner[b] != old.owner[b];
	check(w, moved == (int)changed);
	if (joins)
		check_joined(w, &old, slot);
	else if (leaves || !find(w, slot)->live)
		check_gone(w, &old, slot, !leaves);
	else
		check_returned(w, &old, slot);
	check_always(w);
}

/* With all alive, one dies and returns: nothing is different afterwards. */
static void check_round_trip(struct world *w)
{
	struct bucket_table before;
	unsigned own, least = BUCKETS_MAX, most = 0;
	struct bucket_slot *s;

	for (size_t i = 0; i < w->n; i++)
		w->slots[i].live = true;
	deal(w);
	before = w->table;
	s = &w->slots[draw(w, (uint32_t)w->n)];
	own = bucket_count(&w->table, s->slot);
	s->live = false;
	check(w, deal(w) == (w->n > 1 ? (int)own : 0));
	for (size_t i = 0; i < w->n; i++) {
		unsigned count = bucket_count(&w->table, w->slots[i].slot);

		if (!w->slots[i].live)
			continue;
		least = count < least ? count : least;
		most = count > most ? count : most;
	}
	check(w, w->weighted || w->n == 1 || most - least <= 1);
	s->live = true;
	check(w, deal(w) == (w->n > 1 ? (int)own : 0));
	check(w, memcmp(&before, &w->table, sizeof(before)) == 0);
}

static void histories(unsigned count, unsigned steps, unsigned slots_max, bool weighted)
{
	struct world w;

	for (uint64_t seed = first_seed(); count-- > 0; seed++) {
		memset(&w, 0, sizeof(w));
		bucket_init(&w.table);
		w.seed = seed;
		w.random = seed * 0x9e3779b97f4a7c15u + 1;
		w.weighted = weighted;
		for (w.step = 0; w.step < steps; w.step++) {
			random_step(&w, slots_max);
			if (w.step % 8 == 7)
				check_round_trip(&w);
		}
	}
}

static void random_histories_of_equal_slots_keep_the_rules(void **state)
{
	(void)state;
	histories(1000, 60, 12, false);
	histories(20, 300, 200, false);
}

static void random_histories_of_weighted_slots_keep_the_rules(void **state)
{
	(void)state;
	histories(1000, 60, 8, true);
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
		cmocka_unit_test(random_histories_of_equal_slots_keep_the_rules),
		cmocka_unit_test(random_histories_of_weighted_slots_keep_the_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

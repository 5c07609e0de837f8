/* The table of a group: rules that must hold at every step of random histories. */
#include "bucket_fixture.h"

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
		cmocka_unit_test(random_histories_of_equal_slots_keep_the_rules),
		cmocka_unit_test(random_histories_of_weighted_slots_keep_the_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

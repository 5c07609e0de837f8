/* See cpu.h. No flow is promised a shard here, so nothing is remembered: the same slots, the same table. */
#include "cpu.h"

#include <errno.h>
#include <string.h>

#define RANGE_MIN 4 /* buckets: a range without its slot is cut into pieces for the others */

unsigned cpu_range(const struct bucket_table *t, unsigned cpus)
{
	return t->n / cpus;
}

/* What is known of each number. */
struct numbers {
	uint8_t listed[BUCKETS_MAX];
	uint8_t live[BUCKETS_MAX];
	uint16_t takers[BUCKETS_MAX]; /* the live ones, by number */
	unsigned n_takers, top;
};

/* Weight 0 counts only when nobody has more. */
static int number_slots(const struct bucket_slot *slots, size_t n, struct numbers *ret)
{
	bool any = false, weighty = false;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < n; i++) {
		any |= slots[i].live;
		weighty |= slots[i].live && slots[i].weight > 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (slots[i].slot >= BUCKETS_MAX)
			return -EINVAL;
		ret->listed[slots[i].slot] = 1;
		ret->live[slots[i].slot] =
			!any || (slots[i].live && (slots[i].weight > 0 || !weighty));
		if (ret->top <= slots[i].slot)
			ret->top = slots[i].slot + 1u;
	}
	for (unsigned s = 0; s < ret->top; s++) {
		if (ret->live[s])
			ret->takers[ret->n_takers++] = (uint16_t)s;
	}
	return 0;
}

/* Each range starts with another taker: pieces fewer than takers do not all go to the first ones. */
static uint16_t taker_of(const struct numbers *who, unsigned range, unsigned piece, unsigned pieces)
{
	return who->takers[(range + piece * who->n_takers / pieces) % who->n_takers];
}

int cpu_deal(struct bucket_table *t, const struct bucket_slot *slots, size_t n)
{
	static struct numbers who; /* of the one thread there is */
	int r = number_slots(slots, n, &who);
	unsigned width;

	if (r < 0)
		return r;
	if (who.top == 0)
		return 0;
	while (t->n < BUCKETS_MAX && t->n < RANGE_MIN * who.top)
		t->n = (uint16_t)(2 * t->n);
	width = cpu_range(t, who.top);
	for (unsigned b = 0; b < t->n; b++) {
		unsigned range = b / width;

		t->home[b] = range < who.top && who.listed[range] ? (uint16_t)range : BUCKET_NONE;
		if (range >= who.top)
			t->owner[b] = BUCKET_NONE;
		else if (who.live[range])
			t->owner[b] = (uint16_t)range;
		else
			t->owner[b] = taker_of(&who, range, b % width, width);
	}
	return (int)who.top;
}

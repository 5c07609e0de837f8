/* A group's table and the slots that it is dealt to. */
#ifndef SOCKSHARD_TESTS_BUCKET_FIXTURE_H
#define SOCKSHARD_TESTS_BUCKET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

static inline void equal_slots(struct world *w, size_t n)
{
	bucket_init(&w->table);
	w->n = n;
	for (size_t i = 0; i < n; i++)
		w->slots[i] = (struct bucket_slot){.slot = (uint16_t)i, .weight = 1, .live = true};
}

static inline int deal(struct world *w)
{
	return bucket_deal(&w->table, w->slots, w->n);
}

static inline unsigned ranges(const struct bucket_table *t)
{
	unsigned n = 1;

	for (unsigned b = 1; b < t->n; b++)
		n += t->owner[b] != t->owner[b - 1];
	return n;
}

static inline unsigned homes(const struct bucket_table *t, uint16_t slot)
{
	unsigned n = 0;

	for (unsigned b = 0; b < t->n; b++)
		n += t->home[b] == slot;
	return n;
}

#endif

/* What bucket.c, which says how many each gets, and bucket_cells.c, which ones, share. */
#ifndef SOCKSHARD_STEER_BUCKET_PARTS_H
#define SOCKSHARD_STEER_BUCKET_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bucket.h"

#define NOBODY (-1)

/* A slot, in this dealing. */
struct party {
	uint16_t slot;
	uint16_t given; /* weight as the caller said */
	bool live, anybodys;
	int64_t weight; /* weight in this round; 0: gets nothing */
	int have, want; /* buckets */
	int loose;      /* of these may move on */
};

/* One round: of homes, or of owners. */
struct round {
	int n; /* parties, by slot number: the caller's order does not matter */
	int cells;
	int64_t total; /* of the weights */
	struct party party[BUCKETS_MAX];
	int16_t cell[BUCKETS_MAX]; /* bucket -> party, or NOBODY */
};

/** bucket_need - how many a party wants beyond what it has; < 0: how many it has to give */
static inline int bucket_need(const struct round *r, int who)
{
	return r->party[who].want - r->party[who].have;
}

/** bucket_give - a bucket, of somebody or NOBODY, is another party's from here on */
static inline void bucket_give(struct round *r, int bucket, int who)
{
	if (r->cell[bucket] != NOBODY)
		r->party[r->cell[bucket]].have--;
	r->cell[bucket] = (int16_t)who;
	r->party[who].have++;
}

/** bucket_move_cells - until each party has what it wants, in as few ranges as that takes */
void bucket_move_cells(struct round *r);

#endif

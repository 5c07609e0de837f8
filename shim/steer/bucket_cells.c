/* Which buckets a party gets, when it is known how many: neighbours, so that there are few ranges. */
#include "bucket_parts.h"

/* A piece that one party takes from another. */
struct cut {
	int start, len;
	int score; /* 0: none */
};

static int min_int(int a, int b)
{
	return a < b ? a : b;
}

/* Unclaimed buckets go to the neighbour first: that makes no new range. */
static void extend_neighbours(struct round *r)
{
	for (int b = 1; b < r->cells; b++) {
		int left = r->cell[b - 1];

		if (r->cell[b] == NOBODY && left != NOBODY && bucket_need(r, left) > 0)
			bucket_give(r, b, left);
	}
	for (int b = r->cells - 2; b >= 0; b--) {
		int right = r->cell[b + 1];

		if (r->cell[b] == NOBODY && right != NOBODY && bucket_need(r, right) > 0)
			bucket_give(r, b, right);
	}
}

static void fill_unclaimed(struct round *r)
{
	int who = 0;

	for (int b = 0; b < r->cells; b++) {
		if (r->cell[b] != NOBODY)
			continue;
		while (who < r->n && bucket_need(r, who) <= 0)
			who++;
		if (who == r->n)
			return;
		bucket_give(r, b, who);
	}
}

static int run_end(const struct round *r, int start)
{
	int end = start + 1;

	while (end < r->cells && r->cell[end] == r->cell[start])
		end++;
	return end;
}

static int spare_at(const struct round *r, int bucket)
{
	if (bucket < 0 || bucket >= r->cells || r->cell[bucket] == NOBODY)
		return 0;
	return bucket_need(r, r->cell[bucket]) < 0 ? -bucket_need(r, r->cell[bucket]) : 0;
}

/* What the taker would cut out of the run: best beside its own (no new range), then the whole run
 * (none either), then an end (one new range) beside somebody else who has to give. */
static struct cut cut_run(const struct round *r, int taker, int start, int end)
{
	bool mine_left = start > 0 && r->cell[start - 1] == taker;
	bool mine_right = end < r->cells && r->cell[end] == taker;
	int most = bucket_need(r, taker);
	int len = min_int(min_int(end - start, spare_at(r, start)), most);
	int left = spare_at(r, start - 1);
	int right = spare_at(r, end);
	struct cut c = {.start = start, .len = len, .score = len};

	if (len <= 0)
		return (struct cut){0};
	if (mine_right || (!mine_left && right > left))
		c.start = end - len;
	if (mine_left || mine_right)
		c.score += 4 * BUCKETS_MAX;
	else if (len == end - start)
		c.score += 2 * BUCKETS_MAX;
	else
		c.score = min_int(len + (right > left ? right : left), most);
	return c;
}

static void take_pieces(struct round *r, int taker)
{
	while (bucket_need(r, taker) > 0) {
		struct cut best = {0};

		for (int s = 0, e; s < r->cells; s = e) {
			struct cut c;

			e = run_end(r, s);
			c = cut_run(r, taker, s, e);
			if (c.score > best.score)
				best = c;
		}
		if (best.score == 0)
			return;
		for (int b = best.start; b < best.start + best.len; b++)
			bucket_give(r, b, taker);
	}
}

void bucket_move_cells(struct round *r)
{
	extend_neighbours(r);
	fill_unclaimed(r);
	for (int i = 0; i < r->n; i++)
		take_pieces(r, i);
}

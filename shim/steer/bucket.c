/* Deals the buckets. Two rounds by the same rules, first for homes among all slots listed, then for
 * owners among the live ones: how many each gets (counts only), then which ones (bucket_cells.c). */
#include "bucket.h"

#include <errno.h>
#include <stdlib.h>

#include "bucket_parts.h"

static int party_order(const void *a, const void *b)
{
	const struct party *x = a;
	const struct party *y = b;

	return (int)x->slot - (int)y->slot;
}

static int round_init(struct round *r, const struct bucket_slot *slots, size_t n)
{
	if (n > BUCKETS_MAX)
		return -EINVAL;
	r->n = (int)n;
	for (int i = 0; i < r->n; i++) {
		if (slots[i].slot == BUCKET_NONE)
			return -EINVAL;
		r->party[i] = (struct party){
			.slot = slots[i].slot, .given = slots[i].weight, .live = slots[i].live,
			.anybodys = slots[i].anybodys};
	}
	qsort(r->party, n, sizeof(r->party[0]), party_order);
	for (int i = 1; i < r->n; i++) {
		if (r->party[i].slot == r->party[i - 1].slot)
			return -EINVAL;
	}
	return 0;
}

static int party_of(const struct round *r, uint16_t slot)
{
	const struct party key = {.slot = slot};
	const struct party *p =
		bsearch(&key, r->party, (size_t)r->n, sizeof(r->party[0]), party_order);

	return p ? (int)(p - r->party) : NOBODY;
}

/* Weight 0 counts only when nobody has more. */
static void set_weights(struct round *r, bool live_only)
{
	r->total = 0;
	for (int i = 0; i < r->n; i++) {
		struct party *p = &r->party[i];

		p->weight = live_only && !p->live ? 0 : p->given;
		r->total += p->weight;
	}
	if (r->total > 0)
		return;
	for (int i = 0; i < r->n; i++) {
		r->party[i].weight = r->party[i].live || !live_only;
		r->total += r->party[i].weight;
	}
}

/* Returns how many buckets nobody has. */
static int count_cells(struct round *r)
{
	int unclaimed = 0;

	for (int i = 0; i < r->n; i++)
		r->party[i].have = 0;
	for (int b = 0; b < r->cells; b++) {
		if (r->cell[b] == NOBODY)
			unclaimed++;
		else
			r->party[r->cell[b]].have++;
	}
	for (int i = 0; i < r->n; i++)
		r->party[i].want = r->party[i].have;
	return unclaimed;
}

/* Buckets above (or, negative, below) the share, times the total weight: exact in integers. */
static int64_t excess(const struct round *r, const struct party *p)
{
	return p->want * r->total - r->cells * p->weight;
}

/* Who can spare one. Never the last bucket: its slot would come back as a newcomer. */
static struct party *richest(struct round *r, int64_t above)
{
	struct party *best = NULL;
	int64_t most = above;

	for (int i = 0; i < r->n; i++) {
		int64_t e = excess(r, &r->party[i]);

		if (e > most && r->party[i].want > 1) {
			most = e;
			best = &r->party[i];
		}
	}
	return best;
}

static struct party *poorest(struct round *r, bool newcomer)
{
	struct party *best = NULL;

	for (int i = 0; i < r->n; i++) {
		struct party *p = &r->party[i];

		if (newcomer && p->have > 0)
			continue;
		if (p->weight > 0 && (!best || excess(r, p) < excess(r, best)))
			best = p;
	}
	return best;
}

/* Slots without a bucket get their share rounded down, but one at least: nobody keeps two before.
 */
static int want_newcomers(struct round *r, int unclaimed)
{
	for (int i = 0; i < r->n; i++) {
		struct party *p = &r->party[i];
		int goal = (int)(r->cells * p->weight / r->total);

		if (p->have > 0 || p->weight == 0)
			continue;
		if (goal == 0)
			goal = 1;
		for (; p->want < goal; p->want++) {
			struct party *from;

			if (unclaimed > 0) {
				unclaimed--;
				continue;
			}
			from = richest(r, p->want > 0 ? 0 : INT64_MIN);
			if (!from)
				break;
			from->want--;
		}
	}
	return unclaimed;
}

static void want_unclaimed(struct round *r, int unclaimed)
{
	for (; unclaimed > 0; unclaimed--)
		poorest(r, false)->want++;
}

static void even_out(struct round *r, bool newcomers)
{
	for (;;) {
		struct party *from = richest(r, 0);
		struct party *to = poorest(r, newcomers);

		if (!from || !to || excess(r, from) - excess(r, to) <= r->total)
			return;
		from->want--;
		to->want++;
	}
}

/* No history tried by joins and leaves took a slot two buckets off its share (equal ones: one), and
 * shares below one bucket, rounded up, cost the others one each. More: a weight was changed. */
static bool weights_changed(const struct round *r)
{
	int64_t limit = 2 * r->total;

	for (int i = 0; i < r->n; i++) {
		if (r->cells * r->party[i].weight < r->total)
			limit += r->total;
	}
	for (int i = 0; i < r->n; i++) {
		int64_t e = excess(r, &r->party[i]);

		if (e >= limit || e <= -limit)
			return true;
	}
	return false;
}

static void deal_homes(struct round *r, struct bucket_table *t)
{
	set_weights(r, false);
	for (int b = 0; b < r->cells; b++) {
		int who = party_of(r, t->home[b]);

		r->cell[b] = (int16_t)(who != NOBODY && r->party[who].weight > 0 ? who : NOBODY);
	}
	want_unclaimed(r, want_newcomers(r, count_cells(r)));
	even_out(r, true);
	if (weights_changed(r))
		even_out(r, false);
	/* a bucket whose home is gone becomes at home where it is now: no flow moves */
	for (int b = 0; b < r->cells; b++) {
		int who = party_of(r, t->owner[b]);

		if (r->cell[b] == NOBODY && who != NOBODY && bucket_need(r, who) > 0)
			bucket_give(r, b, who);
	}
	bucket_move_cells(r);
	for (int b = 0; b < r->cells; b++)
		t->home[b] = r->party[r->cell[b]].slot;
}

static bool is_loose(const struct round *r, const struct bucket_table *t, int bucket)
{
	int home = party_of(r, t->home[bucket]);

	return r->cell[bucket] != NOBODY && home != r->cell[bucket] && r->party[home].anybodys;
}

static struct party *richest_in_loose(struct round *r)
{
	struct party *best = NULL;

	for (int i = 0; i < r->n; i++)
		if (r->party[i].loose > 0 && (!best || excess(r, &r->party[i]) > excess(r, best)))
			best = &r->party[i];
	return best;
}

/* What is at home in a slot that is anybody's goes from those who have too much to nobody, for those
 * who have too little: no flow moves of a slot that is there, or comes back. */
static void even_out_loose(struct round *r, const struct bucket_table *t)
{
	for (int i = 0; i < r->n; i++)
		r->party[i].loose = 0;
	for (int b = 0; b < r->cells; b++)
		if (is_loose(r, t, b))
			r->party[r->cell[b]].loose++;
	for (;;) {
		struct party *from = richest_in_loose(r), *to = poorest(r, false);

		if (!from || excess(r, from) - excess(r, to) <= r->total)
			break;
		from->want--;
		from->loose--;
		to->want++;
	}
	for (int b = 0; b < r->cells; b++)
		if (is_loose(r, t, b) && bucket_need(r, r->cell[b]) < 0) {
			r->party[r->cell[b]].have--;
			r->cell[b] = NOBODY;
		}
}

static int deal_owners(struct round *r, struct bucket_table *t)
{
	int moved = 0;

	set_weights(r, true);
	if (r->total == 0)
		return 0;
	for (int b = 0; b < r->cells; b++) {
		int home = party_of(r, t->home[b]);
		int owner = party_of(r, t->owner[b]);

		r->cell[b] = NOBODY;
		if (r->party[home].weight > 0)
			r->cell[b] = (int16_t)home;
		else if (owner != NOBODY && r->party[owner].weight > 0)
			r->cell[b] = (int16_t)owner;
	}
	want_unclaimed(r, count_cells(r));
	even_out_loose(r, t);
	bucket_move_cells(r);
	for (int b = 0; b < r->cells; b++) {
		uint16_t slot = r->party[r->cell[b]].slot;

		moved += t->owner[b] != slot;
		t->owner[b] = slot;
	}
	return moved;
}

static void double_buckets(struct bucket_table *t)
{
	for (int b = t->n - 1; b >= 0; b--) {
		t->owner[2 * b] = t->owner[2 * b + 1] = t->owner[b];
		t->home[2 * b] = t->home[2 * b + 1] = t->home[b];
	}
	t->n = (uint16_t)(2 * t->n);
}

void bucket_init(struct bucket_table *t)
{
	t->n = BUCKETS_MIN;
	for (int b = 0; b < BUCKETS_MAX; b++)
		t->owner[b] = t->home[b] = BUCKET_NONE;
}

int bucket_deal(struct bucket_table *t, const struct bucket_slot *slots, size_t n)
{
	struct round r;
	int err = round_init(&r, slots, n);

	if (err < 0)
		return err;
	while (t->n < BUCKETS_MAX && t->n < 4 * n)
		double_buckets(t);
	r.cells = t->n;
	if (n == 0) {
		for (int b = 0; b < r.cells; b++)
			t->home[b] = BUCKET_NONE;
		return 0;
	}
	deal_homes(&r, t);
	return deal_owners(&r, t);
}

unsigned bucket_count(const struct bucket_table *t, uint16_t slot)
{
	unsigned count = 0;

	for (int b = 0; b < t->n; b++)
		count += t->owner[b] == slot;
	return count;
}

unsigned bucket_of_hash(const struct bucket_table *t, uint32_t hash)
{
	return (unsigned)((uint64_t)hash * t->n >> 32);
}

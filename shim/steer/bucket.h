/* The table of a group: which slot owns which equal part of the hash space, and where each part is at
 * home. Pure data and pure functions. */
#ifndef SOCKSHARD_STEER_BUCKET_H
#define SOCKSHARD_STEER_BUCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUCKETS_MIN 256  /* a 64th is 4 buckets: shares are even to 2 % with 4 slots */
#define BUCKETS_MAX 1024
#define BUCKET_NONE 0xffffu

struct bucket_table {
	uint16_t n;                  /* buckets in use, a power of two */
	uint16_t owner[BUCKETS_MAX]; /* slot that gets new connections now; BUCKET_NONE: nobody */
	uint16_t home[BUCKETS_MAX];  /* slot it returns to when that one is live again */
};

struct bucket_slot {
	uint16_t slot;
	uint16_t weight; /* 0..1000; 0: only when alone */
	bool live;       /* may own buckets now; false: away, but its home is kept */
	bool anybodys;   /* while it is away, what it had is dealt evenly anew at every change */
};

/** bucket_init - BUCKETS_MIN buckets, owned by nobody, at home nowhere */
void bucket_init(struct bucket_table *t);

/**
 * bucket_deal - give every bucket to a live slot
 * @slots: n entries in any order: every slot that is live or whose home is kept
 *
 * First homes: slots not listed lose theirs; a slot without one gets exactly its share by weight,
 * taken from the others in as few contiguous pieces as possible. Then owners: each bucket to its home
 * when that is live, else it stays with the live slot that has it, else to the live slots evenly by
 * weight in contiguous pieces. What is at home in a slot that is anybody's moves on to a live slot that
 * has too little. So the death of one of n moves exactly its own buckets, its return
 * brings exactly these back, and a join moves exactly the newcomer's share. Doubles the number of
 * buckets (moving none) while it is below 4 * n. With no live slot the owners stay as they are.
 * Homes that a slot loses stay where they are owned now, as far as the shares allow; a changed
 * weight moves the difference; every weight above 0 gets one bucket at least.
 *
 * Returns the number of buckets whose owner changed; -EINVAL for a slot given twice or numbered
 * BUCKET_NONE, or over BUCKETS_MAX slots.
 */
int bucket_deal(struct bucket_table *t, const struct bucket_slot *slots, size_t n);

/** bucket_count - how many buckets the slot owns now */
unsigned bucket_count(const struct bucket_table *t, uint16_t slot);

/** bucket_of_hash - the bucket of a 32-bit hash: its top bits */
unsigned bucket_of_hash(const struct bucket_table *t, uint32_t hash);

#endif

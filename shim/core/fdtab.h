/* Which descriptors are ours: a lock-free mark per number in front, and behind it a uthash table
 * fd -> struct shard under a lock that is never held across a call that may block. */
#ifndef SOCKSHARD_CORE_FDTAB_H
#define SOCKSHARD_CORE_FDTAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../keeper/wire.h"

struct shard;

/* Marks. Else: the address of a struct wire_page, with FDTAB_CLAIM or without. */
#define FDTAB_NOT_OURS 0u
#define FDTAB_INTERNAL 1u /* a descriptor of the preload's own */
#define FDTAB_CLAIM    2u /* inherited by a fork, and not yet accepted from */

#define FDTAB_MARKS 65536

extern _Atomic uintptr_t fdtab_marks[FDTAB_MARKS];
extern _Atomic unsigned fdtab_above; /* entries with a number beyond the marks */
extern struct wire_page fdtab_uncounted;

uintptr_t fdtab_peek_above(int fd);

/** fdtab_peek - the mark of a descriptor: one relaxed load. Safe everywhere */
static inline uintptr_t fdtab_peek(int fd)
{
	if (__builtin_expect((unsigned)fd < FDTAB_MARKS, 1))
		return atomic_load_explicit(&fdtab_marks[fd], memory_order_relaxed);
	return atomic_load_explicit(&fdtab_above, memory_order_relaxed) ? fdtab_peek_above(fd) : 0;
}

/** fdtab_count - one more accepted on a descriptor with this mark; the keeper's flags:
 * WIRE_NUDGED, WIRE_KEEPER_DIED */
static inline uint64_t fdtab_count(uintptr_t mark)
{
	struct wire_page *c = (struct wire_page *)(mark & ~(uintptr_t)3);

	return atomic_fetch_add_explicit(&c->word, WIRE_ONE, memory_order_relaxed) & WIRE_FLAGS;
}

void fdtab_lock(void);
void fdtab_unlock(void);
void fdtab_reinit_lock(void); /* in a forked child */

/* All below: under the lock. */

/** fdtab_add - the descriptor stands for this shard; 0, -ENOMEM */
int fdtab_add(int fd, struct shard *shard, uintptr_t mark);

/** fdtab_add_internal - a descriptor of our own; 0, -ENOMEM */
int fdtab_add_internal(int fd);

/** fdtab_find - NULL: not ours, or internal */
struct shard *fdtab_find(int fd);

/** fdtab_remove - forget a descriptor of either kind */
void fdtab_remove(int fd);

/** fdtab_set_mark - of every descriptor of a shard */
void fdtab_set_mark(const struct shard *shard, uintptr_t mark);

/** fdtab_mark_of - of any descriptor of a shard; FDTAB_NOT_OURS when it has none */
uintptr_t fdtab_mark_of(const struct shard *shard);

/** fdtab_next - the lowest descriptor of ours from fd on, internal or not; -1: none */
int fdtab_next(int fd, bool internal);

#endif

/* Which descriptors are ours: a lock-free mark per number in front, and behind it a uthash table
 * fd -> struct shard under a lock that is never held across a call that may block. */
#ifndef SOCKSHARD_CORE_FDTAB_H
#define SOCKSHARD_CORE_FDTAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../keeper/wire.h"

struct shard;

/* Marks. Else: the address of a struct wire_page, alone, with FDTAB_CLAIM, or with FDTAB_POLLED too. */
#define FDTAB_NOT_OURS 0u
#define FDTAB_INTERNAL 1u /* a descriptor of the preload's own */
#define FDTAB_CLAIM    2u /* a listener this process has not accepted from yet; without an address:
                           * one that its memory does not know */
#define FDTAB_FOREIGN  3u /* looked at, and none of ours */
#define FDTAB_POLLED   4u /* with FDTAB_CLAIM: waited for already, so only an accept means something new */
#define FDTAB_BITS     7u

#define FDTAB_MARKS 65536

extern _Atomic uintptr_t fdtab_marks[FDTAB_MARKS];
extern _Atomic unsigned fdtab_above; /* entries with a number beyond the marks */
extern _Atomic unsigned fdtab_touch; /* marks that a wait would change; 1 more before fdtab_scanned() */
extern _Atomic unsigned fdtab_tags;  /* marks without an entry in the table */
extern struct wire_page fdtab_uncounted;

uintptr_t fdtab_peek_above(int fd);

/** fdtab_peek - the mark of a descriptor: one relaxed load. Safe everywhere */
static inline uintptr_t fdtab_peek(int fd)
{
	if (__builtin_expect((unsigned)fd < FDTAB_MARKS, 1))
		return atomic_load_explicit(&fdtab_marks[fd], memory_order_relaxed);
	return atomic_load_explicit(&fdtab_above, memory_order_relaxed) ? fdtab_peek_above(fd) : 0;
}

/** fdtab_is_plain - is a mark nothing but the address of a page: an accept has only to count there */
static inline bool fdtab_is_plain(uintptr_t mark)
{
	return mark != FDTAB_NOT_OURS && (mark & FDTAB_BITS) == 0;
}

/** fdtab_count_at - fdtab_count() by a mark that is plain */
static inline uint64_t fdtab_count_at(uintptr_t plain)
{
	struct wire_page *c = (struct wire_page *)plain;

	return atomic_fetch_add_explicit(&c->word, WIRE_ONE, memory_order_relaxed) & WIRE_FLAGS;
}

/** fdtab_count - one more accepted on a descriptor with this mark; the keeper's flags:
 * WIRE_NUDGED, WIRE_KEEPER_DIED */
static inline uint64_t fdtab_count(uintptr_t mark)
{
	return fdtab_count_at(mark & ~(uintptr_t)FDTAB_BITS);
}

/** fdtab_flags_at - what fdtab_count_at() would return */
static inline uint64_t fdtab_flags_at(uintptr_t plain)
{
	struct wire_page *c = (struct wire_page *)plain;

	return atomic_load_explicit(&c->word, memory_order_relaxed) & WIRE_FLAGS;
}

/** fdtab_wants_touch - does it mean something that the process waits for this one */
static inline bool fdtab_wants_touch(uintptr_t mark)
{
	return (mark & FDTAB_BITS) == FDTAB_CLAIM;
}

/** fdtab_is_known - has it a shard, going by its mark */
static inline bool fdtab_is_known(uintptr_t mark)
{
	return mark > FDTAB_BITS;
}

void fdtab_lock(void);
void fdtab_unlock(void);
void fdtab_reinit_lock(void); /* in a forked child */

/* All below: under the lock. */

/** fdtab_add - the descriptor stands for this shard; 0, -ENOMEM */
int fdtab_add(int fd, struct shard *shard, uintptr_t mark);

/** fdtab_add_internal - a descriptor of our own; 0, -ENOMEM */
int fdtab_add_internal(int fd);

/** fdtab_tag - a mark alone: FDTAB_CLAIM, FDTAB_FOREIGN or none. Of numbers above the marks: nothing */
void fdtab_tag(int fd, uintptr_t mark);

/** fdtab_untag - of all numbers from first to last */
void fdtab_untag(unsigned first, unsigned last);

/** fdtab_scanned - the descriptors that were here before the program have been looked at */
void fdtab_scanned(void);

/** fdtab_find - NULL: not ours, or internal */
struct shard *fdtab_find(int fd);

/** fdtab_remove - forget a descriptor of any kind */
void fdtab_remove(int fd);

/** fdtab_set_mark - of every descriptor of a shard */
void fdtab_set_mark(const struct shard *shard, uintptr_t mark);

/** fdtab_mark_of - of any descriptor of a shard; FDTAB_NOT_OURS when it has none */
uintptr_t fdtab_mark_of(const struct shard *shard);

/** fdtab_number_of - the lowest descriptor of a shard from fd on; -1: none */
int fdtab_number_of(const struct shard *shard, int fd);

/** fdtab_next - the lowest descriptor of ours from fd on, internal or not; -1: none */
int fdtab_next(int fd, bool internal);

#endif

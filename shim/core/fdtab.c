/* See fdtab.h. */
#include "fdtab.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "pool.h"

/* The server must never end because we are out of memory. */
#define HASH_NONFATAL_OOM     1
#define uthash_malloc(size)   pool_alloc(size)
#define uthash_free(p, size)  pool_free(p, size)
#define uthash_nonfatal_oom(e) ((e)->failed = true)
#include <uthash.h>

struct entry {
	int fd;
	bool failed;
	struct shard *shard; /* NULL: internal */
	uintptr_t mark;
	UT_hash_handle hh;
};

_Atomic uintptr_t fdtab_marks[FDTAB_MARKS];
_Atomic unsigned fdtab_above;
_Atomic unsigned fdtab_touch = 1;
_Atomic unsigned fdtab_tags;
struct wire_page fdtab_uncounted;

static struct entry *table;
static bool scanned;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fdtab_lock(void)
{
	pthread_mutex_lock(&lock);
}

void fdtab_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void fdtab_reinit_lock(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	memcpy(&lock, &fresh, sizeof(lock));
}

static struct entry *find(int fd)
{
	struct entry *e;

	HASH_FIND_INT(table, &fd, e);
	return e;
}

static bool is_tag(uintptr_t mark)
{
	return mark == FDTAB_CLAIM || mark == FDTAB_FOREIGN;
}

static void count_change(uintptr_t old, uintptr_t mark)
{
	atomic_fetch_add(&fdtab_touch, fdtab_wants_touch(mark) - (unsigned)fdtab_wants_touch(old));
	atomic_fetch_add(&fdtab_tags, is_tag(mark) - (unsigned)is_tag(old));
}

static void publish(int fd, uintptr_t old, uintptr_t mark)
{
	if ((unsigned)fd < FDTAB_MARKS)
		old = atomic_exchange_explicit(&fdtab_marks[fd], mark, memory_order_acq_rel);
	count_change(old, mark);
}

uintptr_t fdtab_peek_above(int fd)
{
	const struct entry *e;
	uintptr_t mark;

	fdtab_lock();
	e = find(fd);
	mark = e ? e->mark : FDTAB_NOT_OURS;
	fdtab_unlock();
	return mark;
}

int fdtab_add(int fd, struct shard *shard, uintptr_t mark)
{
	struct entry *e;

	fdtab_remove(fd);
	e = pool_alloc(sizeof(*e));
	if (!e)
		return -ENOMEM;
	memset(e, 0, sizeof(*e));
	e->fd = fd;
	e->shard = shard;
	e->mark = mark;
	HASH_ADD_INT(table, fd, e);
	if (e->failed) {
		pool_free(e, sizeof(*e));
		return -ENOMEM;
	}
	if ((unsigned)fd >= FDTAB_MARKS)
		atomic_fetch_add(&fdtab_above, 1);
	publish(fd, FDTAB_NOT_OURS, mark);
	return 0;
}

int fdtab_add_internal(int fd)
{
	return fdtab_add(fd, NULL, FDTAB_INTERNAL);
}

void fdtab_tag(int fd, uintptr_t mark)
{
	if ((unsigned)fd < FDTAB_MARKS && !find(fd))
		publish(fd, FDTAB_NOT_OURS, mark);
}

void fdtab_untag(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd < FDTAB_MARKS && atomic_load(&fdtab_tags) > 0; fd++)
		if (is_tag(fdtab_peek((int)fd)))
			fdtab_tag((int)fd, FDTAB_NOT_OURS);
}

void fdtab_scanned(void)
{
	if (!scanned)
		atomic_fetch_sub(&fdtab_touch, 1);
	scanned = true;
}

struct shard *fdtab_find(int fd)
{
	const struct entry *e = find(fd);

	return e ? e->shard : NULL;
}

void fdtab_remove(int fd)
{
	struct entry *e = find(fd);

	if (!e) {
		fdtab_tag(fd, FDTAB_NOT_OURS);
		return;
	}
	publish(fd, e->mark, FDTAB_NOT_OURS);
	if ((unsigned)fd >= FDTAB_MARKS)
		atomic_fetch_sub(&fdtab_above, 1);
	HASH_DEL(table, e);
	pool_free(e, sizeof(*e));
}

void fdtab_set_mark(const struct shard *shard, uintptr_t mark)
{
	for (struct entry *e = table; e; e = e->hh.next)
		if (e->shard == shard) {
			publish(e->fd, e->mark, mark);
			e->mark = mark;
		}
}

uintptr_t fdtab_mark_of(const struct shard *shard)
{
	for (const struct entry *e = table; e; e = e->hh.next)
		if (e->shard == shard)
			return e->mark;
	return FDTAB_NOT_OURS;
}

int fdtab_number_of(const struct shard *shard, int fd)
{
	int next = -1;

	for (const struct entry *e = table; e; e = e->hh.next)
		if (e->fd >= fd && e->shard == shard && (next == -1 || e->fd < next))
			next = e->fd;
	return next;
}

int fdtab_next(int fd, bool internal)
{
	int next = -1;

	for (const struct entry *e = table; e; e = e->hh.next)
		if (e->fd >= fd && (e->shard == NULL) == internal && (next == -1 || e->fd < next))
			next = e->fd;
	return next;
}

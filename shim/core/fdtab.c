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
struct wire_page fdtab_uncounted;

static struct entry *table;
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

static void publish(int fd, uintptr_t mark)
{
	if ((unsigned)fd < FDTAB_MARKS)
		atomic_store_explicit(&fdtab_marks[fd], mark, memory_order_release);
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
	publish(fd, mark);
	return 0;
}

int fdtab_add_internal(int fd)
{
	return fdtab_add(fd, NULL, FDTAB_INTERNAL);
}

struct shard *fdtab_find(int fd)
{
	const struct entry *e = find(fd);

	return e ? e->shard : NULL;
}

void fdtab_remove(int fd)
{
	struct entry *e = find(fd);

	if (!e)
		return;
	publish(fd, FDTAB_NOT_OURS);
	if ((unsigned)fd >= FDTAB_MARKS)
		atomic_fetch_sub(&fdtab_above, 1);
	HASH_DEL(table, e);
	pool_free(e, sizeof(*e));
}

void fdtab_set_mark(const struct shard *shard, uintptr_t mark)
{
	for (struct entry *e = table; e; e = e->hh.next)
		if (e->shard == shard) {
			e->mark = mark;
			publish(e->fd, mark);
		}
}

uintptr_t fdtab_mark_of(const struct shard *shard)
{
	for (const struct entry *e = table; e; e = e->hh.next)
		if (e->shard == shard)
			return e->mark;
	return FDTAB_NOT_OURS;
}

int fdtab_next(int fd, bool internal)
{
	int next = -1;

	for (const struct entry *e = table; e; e = e->hh.next)
		if (e->fd >= fd && (e->shard == NULL) == internal && (next == -1 || e->fd < next))
			next = e->fd;
	return next;
}

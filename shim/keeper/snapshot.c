/* See snapshot.h. Two copies in turn: a commit brings the older one up to date, object by object, and
 * then says in one store that it is the whole one. Comparing costs less than marking every change,
 * and nothing can be forgotten. */
#include "snapshot.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/os.h"
#include "fault.h"

static void *map(size_t n, int kind)
{
	void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

struct shared *snapshot_make(void)
{
	struct shared *s = map(sizeof(*s), MAP_SHARED);

	if (s) {
		s->vault.pidfd = s->worker.pidfd = s->ready_fd = s->attempt.conn = NONE;
		s->state[0].outbox.conn = NONE;
	}
	return s;
}

struct keeper *snapshot_new(struct shared *shared)
{
	struct keeper *k = map(sizeof(*k), MAP_PRIVATE);

	if (k)
		k->shared = shared;
	return k;
}

static void update(void *to, const void *from, size_t n)
{
	if (memcmp(to, from, n) != 0)
		memcpy(to, from, n);
}

static void update_group(struct group *to, const struct group *from)
{
	size_t map = offsetof(struct index_map, e);

	if (!from->used) {
		to->used = false;
		return;
	}
	update(to, from, offsetof(struct group, table));
	update(to->ghost_index, from->ghost_index, sizeof(from->ghost_index));
	to->table.n = from->table.n;
	update(to->table.owner, from->table.owner, from->table.n * sizeof(to->table.owner[0]));
	update(to->table.home, from->table.home, from->table.n * sizeof(to->table.home[0]));
	update(&to->map, &from->map, map + from->map.n * sizeof(from->map.e[0]));
	update(to->slots, from->slots, from->slot_top * sizeof(from->slots[0]));
}

/* to: as long ago as any, or torn by a worker's end: whatever differs is written. */
static void copy(struct keeper *to, struct keeper *from)
{
	for (int i = 0; i < from->member_top; i++) {
		const struct member *m = &from->members[i];

		if (m->used && from->groups[m->group].slot_top <= m->slot && m->slot < BUCKETS_MAX)
			from->groups[m->group].slot_top = m->slot + 1;
		if (m->used || to->members[i].used)
			update(&to->members[i], m, sizeof(*m));
	}
	memcpy(to, from, offsetof(struct keeper, groups));
	for (int i = 0; i < from->group_top; i++)
		update_group(&to->groups[i], &from->groups[i]);
	for (int i = 0; i < from->conn_top; i++) {
		const struct conn *c = &from->conn[i];

		/* Only launchers have the last part. */
		if (c->used || to->conn[i].used)
			update(&to->conn[i], c, c->n > 0 || to->conn[i].n > 0
			                                ? sizeof(*c)
			                                : offsetof(struct conn, stopping));
	}
	for (int i = 0; i < from->gift_top; i++)
		if (from->gifts[i].used || to->gifts[i].used)
			update(&to->gifts[i], &from->gifts[i], sizeof(from->gifts[i]));
	for (int i = 0; i < from->nudge_top; i++)
		if (from->nudges[i].used || to->nudges[i].used)
			update(&to->nudges[i], &from->nudges[i], sizeof(from->nudges[i]));
}

void state_commit(struct keeper *k)
{
	struct shared *s = k->shared;
	unsigned next = !atomic_load_explicit(&s->active, memory_order_relaxed), n = k->n_closing;

	FAULT(commit_before);
	copy(&s->state[next], k);
	atomic_store_explicit(&s->active, next, memory_order_release);
	FAULT(commit_after);
	k->n_closing = 0;
	for (unsigned i = 0; i < n; i++) {
		if (k->closing[i].late) {
			k->closing[k->n_closing] = k->closing[i];
			k->closing[k->n_closing++].late = false;
			continue;
		}
		k->sys->close(k->closing[i].fd);
		FAULT(close_after);
	}
}

static void close_when_committed(struct keeper *k, int fd, bool late, uint64_t identity)
{
	if (k->n_closing == CLOSING_MAX) { /* more than one event ever ends */
		k->sys->close(fd);
		return;
	}
	k->closing[k->n_closing].fd = fd;
	k->closing[k->n_closing].late = late;
	k->closing[k->n_closing++].identity = identity;
}

void state_close(struct keeper *k, int fd, uint64_t identity)
{
	close_when_committed(k, fd, false, identity);
}

void state_close_late(struct keeper *k, int fd, uint64_t identity)
{
	close_when_committed(k, fd, true, identity);
}

struct keeper *snapshot_load(struct shared *shared)
{
	struct keeper *k = snapshot_new(shared);

	if (k)
		copy(k, &shared->state[atomic_load_explicit(&shared->active, memory_order_acquire)]);
	return k;
}

void snapshot_drop(struct keeper *k)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].page.at)
			(void)munmap(k->members[i].page.at, WIRE_PAGE_BYTES);
	for (int i = 0; i < k->conn_top; i++)
		if (k->conn[i].used && k->conn[i].page.at)
			(void)munmap(k->conn[i].page.at, WIRE_PAGE_BYTES);
	(void)munmap(k, sizeof(*k));
}

uint64_t snapshot_identity(int fd)
{
	uint64_t cookie;
	struct stat st;

	if (fd < 0)
		return 0;
	if (os_get()->cookie(sys_get(), fd, &cookie) == 0)
		return cookie;
	return fstat(fd, &st) == 0 ? st.st_ino | UINT64_C(1) << 63 : 0; /* no cookie has that */
}

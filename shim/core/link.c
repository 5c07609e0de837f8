/* See link.h. After the server has sandboxed itself only sendmsg and recvmsg are called. */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../os/os.h"
#include "../sys/pidfd.h"
#include "../util/log.h"
#include "init.h"
#include "pool.h"

#define HIGH_FD   900  /* below FD_SETSIZE and the usual limit of 1,024, above what servers count on */
#define BUSY_SPINS 10000
#define BUSY_NAP_US 200
#define BUSY_NAPS  (4 * KEEPER_DEADLINE_MS * 1000 / BUSY_NAP_US) /* a question ends within two deadlines */
#define RESERVE_TRIES   50
#define RESERVE_WAIT_US 20000

struct free_page {
	struct free_page *next;
	void *page;
};

static struct free_page *free_pages; /* addresses of pages no shard uses; under the lock of fdtab */

bool link_failed(int r)
{
	return r == -ETIMEDOUT || r == -EBUSY || r == -ECONNRESET || r == -EPIPE || r == -EPROTO || r == -EBADF ||
	       r == -ENOTCONN || r == -ENOTSOCK;
}

/* Out of the way of servers that count on low numbers. Any number will do when none is free there. */
static int move_high(const struct sys *sys, int fd)
{
	struct rlimit l;
	int from = HIGH_FD, high;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur <= HIGH_FD)
		from = (int)(l.rlim_cur - l.rlim_cur / 8);
	high = sys->fcntl(fd, F_DUPFD_CLOEXEC, from);
	if (high == -1)
		return fd;
	sys->close(fd);
	return high;
}

int link_open(const struct sys *sys, struct shard *s, bool start)
{
	struct keeper_where where = {
		.name = init.keeper_name[0] ? init.keeper_name : NULL,
		.command = start && init.command[0] ? init.command : NULL,
		.log = init.log[0] ? init.log : NULL,
		.uid = s->keeper_uid,
	};
	int pidfd = (int)sys->syscall(SYS_pidfd_open, getpid(), 0);
	int r = keeper_connect(sys, &where, WIRE_SHARD, pidfd, &s->keeper);

	if (pidfd >= 0)
		sys->close(pidfd);
	if (r == 0) {
		s->keeper.fd = move_high(sys, s->keeper.fd);
		r = os_get()->cookie(sys, s->keeper.fd, &s->keeper_cookie);
		fdtab_lock();
		if (r == 0)
			r = fdtab_add_internal(s->keeper.fd);
		fdtab_unlock();
		if (r == 0)
			return 0;
		sys->close(s->keeper.fd);
	}
	s->keeper.fd = -1;
	return r;
}

/* A number closed behind our back may be a client's connection by now: it must not get our bytes. */
static bool still_ours(const struct sys *sys, const struct shard *s)
{
	uint64_t cookie;

	if (s->keeper.fd < 0)
		return false;
	if (atomic_load(&init_sandboxed))
		return true;
	return os_get()->cookie(sys, s->keeper.fd, &cookie) == 0 && cookie == s->keeper_cookie;
}

/* Under the lock, so that of two threads one closes it: the number may be a client's next. */
void link_close(const struct sys *sys, struct shard *s)
{
	bool ours;
	int fd;

	if (s->keeper.fd < 0)
		return;
	fdtab_lock();
	fd = s->keeper.fd;
	ours = still_ours(sys, s);
	if (fd >= 0)
		fdtab_remove(fd);
	s->keeper.fd = -1;
	fdtab_unlock();
	if (ours)
		sys->close(fd);
}

void link_renumber(int fd, int moved)
{
	for (int n = fdtab_next(0, false); n >= 0; n = fdtab_next(n + 1, false)) {
		struct shard *s = fdtab_find(n);

		if (s->keeper.fd == fd)
			s->keeper.fd = moved;
	}
}

bool link_is_internal(const struct sys *sys, int fd)
{
	bool ours = false;

	fdtab_lock();
	for (int n = fdtab_next(0, false); n >= 0; n = fdtab_next(n + 1, false)) {
		const struct shard *s = fdtab_find(n);

		if (s->keeper.fd == fd && still_ours(sys, s))
			ours = true;
	}
	if (!ours) {
		link_renumber(fd, -1);
		fdtab_remove(fd);
	}
	fdtab_unlock();
	return ours;
}

/* Another thread's question: the keeper's answer may take its time, and then the deadline ends it. Who
 * gave up before that would hand a nudge to the server, as a client that never says anything. */
int link_take_turn(struct shard *s)
{
	for (int tries = 0; atomic_exchange(&s->busy, true); tries++) {
		if (tries >= BUSY_SPINS + BUSY_NAPS)
			return -EBUSY;
		if (tries < BUSY_SPINS || atomic_load(&init_sandboxed))
			sched_yield();
		else
			usleep(BUSY_NAP_US);
	}
	return 0;
}

void link_end_turn(struct shard *s)
{
	atomic_store(&s->busy, false);
}

bool link_is_lost(const struct sys *sys, const struct shard *s)
{
	struct pollfd p = { .fd = s->keeper.fd, .events = POLLIN };

	if (p.fd < 0)
		return true;
	return !atomic_load(&init_sandboxed) && sys->poll(&p, 1, 0) > 0 &&
	       (p.revents & (POLLHUP | POLLERR));
}

int link_tell(const struct sys *sys, struct shard *s, struct wire_packet *packet)
{
	int r = still_ours(sys, s) ? keeper_tell(sys, &s->keeper, packet) : -ENOTCONN;

	packet->n_fds = 0; /* the caller's stay the caller's */
	return r == -EAGAIN ? -EBUSY : r;
}

int link_hear(const struct sys *sys, struct shard *s, struct wire_packet *packet)
{
	return keeper_hear(sys, &s->keeper, packet);
}

int link_ask(const struct sys *sys, struct shard *s, struct wire_packet *packet)
{
	int r = link_take_turn(s);

	if (r < 0)
		return r;
	r = link_tell(sys, s, packet);
	if (r >= 0)
		r = link_hear(sys, s, packet);
	if (link_failed(r))
		link_close(sys, s);
	link_end_turn(s);
	return r;
}

/* The flag first: the keeper raises it when it sees the end, and another one with the next connection. */
void link_give_up(const struct sys *sys, struct shard *s)
{
	if (s->keeper.fd < 0)
		return; /* another thread has: the keeper may have called since */
	atomic_fetch_and_explicit(&s->counter->word, ~(uint64_t)WIRE_NUDGED, memory_order_relaxed);
	link_close(sys, s);
}

int link_leave(const struct sys *sys, struct shard *s, uint32_t action)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_LEAVE;
	p.body.leave.action = action;
	r = link_ask(sys, s, &p);
	wire_close_fds(sys, &p);
	return r;
}

int link_reserve(const struct sys *sys, struct shard *s, bool rejoins)
{
	struct wire_packet p;
	struct wire_reserve *w = &p.body.reserve;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_RESERVE;
	w->addr = s->addr;
	memcpy(w->group, init.group, sizeof(w->group));
	w->mode = s->mode;
	w->key = s->key;
	w->hold_ms = s->hold_ms;
	w->stuck_ms = s->stuck_ms;
	w->slot = init.slot;
	w->generation = init.generation;
	w->weight = init.weight;
	w->own_sharing = s->had_port;
	w->reuse_addr = s->had_addr;
	w->rejoins = rejoins;
	w->own_program = s->own_program;
	for (int tries = 0;; tries++) {
		struct wire_packet q = p;

		r = link_ask(sys, s, &q);
		if (r == -EAGAIN && tries < RESERVE_TRIES) { /* older siblings are being woken */
			wire_close_fds(sys, &q);
			usleep(RESERVE_WAIT_US);
			continue;
		}
		s->listened = r == 0 && q.body.reserve.listened == 1;
		if (r < 0)
			wire_close_fds(sys, &q);
		else
			link_map_counter(sys, s, &q);
		return r == -EAGAIN ? -EADDRINUSE : r;
	}
}

void link_map_counter(const struct sys *sys, struct shard *s, struct wire_packet *packet)
{
	struct free_page *reused;
	void *page;

	s->counter = &fdtab_uncounted;
	if (packet->n_fds != 1)
		goto out;
	fdtab_lock();
	reused = free_pages;
	if (reused)
		free_pages = reused->next;
	fdtab_unlock();
	/* Over the old page in one step: a thread that is late with its count may still write there. */
	page = mmap(reused ? reused->page : NULL, WIRE_PAGE_BYTES, PROT_READ | PROT_WRITE,
	            MAP_SHARED | (reused ? MAP_FIXED : 0), packet->fds[0], 0);
	if (page != MAP_FAILED)
		s->counter = page;
	fdtab_lock();
	if (reused)
		pool_free(reused, sizeof(*reused));
	fdtab_unlock();
out:
	wire_close_fds(sys, packet);
}

void link_unmap_counter(struct shard *s)
{
	struct free_page *f;

	if (!s->counter || s->counter == &fdtab_uncounted)
		return;
	fdtab_lock();
	f = pool_alloc(sizeof(*f));
	if (f) {
		f->page = s->counter;
		f->next = free_pages;
		free_pages = f;
	}
	fdtab_unlock();
	s->counter = NULL;
}

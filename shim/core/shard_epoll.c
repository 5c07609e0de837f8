/* Which epoll instances are this process's own, what of ours is registered where, and so whether a
 * listener can be replaced. */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../util/log.h"
#include "fdinfo.h"
#include "init.h"
#include "pool.h"
#include "shard_parts.h"

#define BOUND_EPOLL "it is registered with an epoll instance that other processes share"
#define BOUND_LOCK  "accepts are serialised by a lock between processes"
#define BOUND_MANY  "it is registered with too many epoll instances"

/* A registration as we saw it made: for processes that cannot read /proc. */
struct record {
	struct record *next;
	struct shard_watch w;
};

static _Atomic uint64_t own[FDTAB_MARKS / 64]; /* a bit for each number */
static _Atomic unsigned own_top;               /* words in use */
static struct record *records;                 /* under the lock of fdtab */
static _Atomic unsigned n_records;

bool shard_epoll_is_own(int epfd)
{
	return (unsigned)epfd < FDTAB_MARKS &&
	       (atomic_load(&own[epfd / 64]) >> (epfd % 64) & 1);
}

void shard_epoll_forked(void)
{
	for (unsigned i = 0; i < atomic_load(&own_top); i++)
		atomic_store(&own[i], 0);
	atomic_store(&own_top, 0);
}

/* Those of a number, of either kind; -1: all. */
static void drop(int epfd, int fd)
{
	for (struct record **at = &records, *r; (r = *at);) {
		if ((epfd == -1 || r->w.epfd == epfd) && (fd == -1 || r->w.fd == fd)) {
			*at = r->next;
			pool_free(r, sizeof(*r));
			atomic_fetch_sub(&n_records, 1);
		} else {
			at = &r->next;
		}
	}
}

void shard_epoll_forget(int fd)
{
	drop(-1, fd);
}

unsigned shard_epoll_watched(void)
{
	return atomic_load_explicit(&n_records, memory_order_relaxed);
}

void shard_epoll_created(const struct sys *sys, int epfd)
{
	unsigned top = atomic_load(&own_top), word = (unsigned)epfd / 64;

	if (!init_is_self())
		return;
	shard_scan(sys);
	if (shard_epoll_watched() > 0) {
		fdtab_lock();
		drop(epfd, -1); /* of an instance that was closed */
		fdtab_unlock();
	}
	if ((unsigned)epfd >= FDTAB_MARKS)
		return;
	while (top <= word && !atomic_compare_exchange_weak(&own_top, &top, word + 1))
		;
	atomic_fetch_or(&own[word], UINT64_C(1) << (epfd % 64));
}

static void note(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct record *r;

	fdtab_lock();
	drop(epfd, fd);
	r = op == EPOLL_CTL_DEL || !fdtab_find(fd) ? NULL : pool_alloc(sizeof(*r));
	if (r) {
		r->w = (struct shard_watch){ epfd, fd, event->events, event->data.u64 };
		r->next = records;
		records = r;
		atomic_fetch_add(&n_records, 1);
	}
	fdtab_unlock();
}

/* By this very process, since somebody sent it or before a fork. It may be registered for another thread,
 * which waits already: nothing else would tell that it is used from now on. */
static bool is_held(int fd)
{
	const struct shard *s;
	bool held;

	fdtab_lock();
	s = fdtab_find(fd);
	held = s && s->part == SHARD_HOLDS && s->owner == getpid();
	fdtab_unlock();
	return held;
}

int shard_epoll_ctl(const struct sys *sys, int epfd, int op, int fd, struct epoll_event *event)
{
	uintptr_t mark = fdtab_peek(fd);
	int r;

	/* One that is known is claimed by the first wait: uWSGI's and apache's workers have taken the
	 * lock that serialises their accepts by then. */
	if (op == EPOLL_CTL_ADD && fdtab_wants_touch(mark) && (!fdtab_is_known(mark) || is_held(fd)))
		shard_touch(sys, fd, TOUCH_WAIT, epfd);
	r = sys->epoll_ctl(epfd, op, fd, event) == -1 ? -errno : 0;
	if (r == 0 && init_is_self())
		note(epfd, op, fd, event);
	return r;
}

void shard_epoll_wait(const struct sys *sys, int epfd)
{
	for (int fd = -1;;) {
		int next = -1;

		fdtab_lock();
		for (const struct record *r = records; r; r = r->next)
			if (r->w.epfd == epfd && r->w.fd > fd && (next == -1 || r->w.fd < next) &&
			    fdtab_wants_touch(fdtab_peek(r->w.fd)))
				next = r->w.fd;
		fdtab_unlock();
		if (next == -1)
			return;
		fd = next;
		shard_touch(sys, fd, TOUCH_WAIT, -1);
	}
}

struct search {
	const struct shard *s;
	uint64_t inode;
	struct shard_watches *ret;
};

static void add(struct shard_watches *ret, const struct shard_watch *w)
{
	if (!shard_epoll_is_own(w->epfd))
		ret->bound = BOUND_EPOLL;
	else if (ret->n == WATCHES_MAX)
		ret->bound = BOUND_MANY;
	else
		ret->w[ret->n++] = *w;
}

static void found_watch(const struct fdinfo_watch *f, void *arg)
{
	struct search *search = arg;
	struct shard_watch w = { f->epfd, f->fd, f->events, f->data };
	bool ours;

	fdtab_lock();
	ours = fdtab_find(f->fd) == search->s;
	fdtab_unlock();
	if (ours && (f->inode == 0 || f->inode == search->inode))
		add(search->ret, &w);
	else if (f->inode != 0 && f->inode == search->inode)
		search->ret->bound = BOUND_EPOLL; /* by a number that is closed by now: it stays */
}

static void found_lock(int pid, void *arg)
{
	struct search *search = arg;

	if (pid == getpid())
		search->ret->bound = BOUND_LOCK;
}

/* Apache's and uWSGI's accept mutex is one, if it is no semaphore. Its holder is about to wait for
 * connections, and would make those wait that have some of their own. */
static bool holds_robust_mutex(const struct sys *sys)
{
	struct robust_list_head *head = NULL;
	size_t size;

	return sys->syscall(SYS_get_robust_list, 0, &head, &size) == 0 && head &&
	       ((uintptr_t)head->list.next & ~(uintptr_t)1) != (uintptr_t)&head->list;
}

/* Has somebody closed the instance unseen? Only in a process that cannot read /proc. */
static bool is_registered(const struct sys *sys, const struct shard_watch *w)
{
	struct epoll_event event = { .events = 0 };

	if (sys->epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->fd, &event) == -1)
		return errno == EEXIST;
	(void)sys->epoll_ctl(w->epfd, EPOLL_CTL_DEL, w->fd, &event);
	return false;
}

static void add_records(const struct sys *sys, const struct shard *s, struct shard_watches *ret)
{
	struct shard_watch found[WATCHES_MAX];
	unsigned n = 0;

	fdtab_lock();
	for (const struct record *r = records; r && n < WATCHES_MAX; r = r->next)
		if (fdtab_find(r->w.fd) == s)
			found[n++] = r->w;
	fdtab_unlock();
	for (unsigned i = 0; i < n; i++)
		if (is_registered(sys, &found[i]))
			add(ret, &found[i]);
}

void shard_watches(const struct sys *sys, const struct shard *s, struct shard_watches *ret)
{
	struct search search = { .s = s, .ret = ret };
	const struct fdinfo_visitor visitor = { found_watch, found_lock, &search };
	struct stat st;
	int fd;

	memset(ret, 0, sizeof(*ret));
	fdtab_lock();
	fd = fdtab_number_of(s, 0);
	fdtab_unlock();
	if (fd >= 0 && fstat(fd, &st) == 0)
		search.inode = st.st_ino;
	if (fdinfo_visit(sys, &visitor) < 0)
		add_records(sys, s, ret);
	if (holds_robust_mutex(sys) || fdinfo_holds_semaphore(sys))
		ret->bound = BOUND_LOCK;
}

enum wire_want shard_want(const struct sys *sys, const struct shard *s, int epfd,
                          struct shard_watches *ret_watches)
{
	char text[ADDR_TEXT_MAX];

	memset(ret_watches, 0, sizeof(*ret_watches));
	if (init.workers_shared)
		return WIRE_WANT_BESIDE;
	shard_watches(sys, s, ret_watches);
	if (epfd >= 0 && !shard_epoll_is_own(epfd))
		ret_watches->bound = BOUND_EPOLL;
	if (!ret_watches->bound)
		return WIRE_WANT_OWN;
	log_info("%s: the workers share one socket: %s", addr_format(&s->addr, text, sizeof(text)),
	         ret_watches->bound);
	return WIRE_WANT_BESIDE;
}

/* Processes that claim a listening socket of the keeper of keeper_fixture.h. */
#ifndef SOCKSHARD_TESTS_CLAIM_FIXTURE_H
#define SOCKSHARD_TESTS_CLAIM_FIXTURE_H

#include "keeper_fixture.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define LONG_MS 60000

/* A process that claimed, as a connection of this one: without a pidfd its end is the process's. */
struct worker {
	struct keeper_client c;
	struct wire_joined joined;
	int fd;                 /* made for it, or -1 */
	struct wire_page *page; /* that came along, or NULL */
};

static inline int claim_on(struct keeper_client *c, const struct wire_claim *what, int fd,
                           struct worker *ret)
{
	struct wire_packet p;
	unsigned next = 0;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_CLAIM;
	p.body.claim = *what;
	p.fds[0] = fd;
	p.n_fds = fd >= 0;
	r = keeper_ask(sys_get(), c, &p);
	ret->joined = p.body.joined;
	ret->fd = -1;
	ret->page = NULL;
	if (r == 0 && p.body.joined.made)
		ret->fd = p.fds[next++];
	if (r == 0 && next < p.n_fds) {
		ret->page = mmap(NULL, WIRE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		                 p.fds[next], 0);
		assert_ptr_not_equal(ret->page, MAP_FAILED);
		close(p.fds[next++]);
	}
	if (r == 0)
		assert_int_equal(p.n_fds, next);
	return r;
}

static inline struct wire_claim by_token(const struct wire_joined *joined, uint32_t want)
{
	struct wire_claim what = { .want = want };

	memcpy(what.token, joined->token, WIRE_TOKEN);
	return what;
}

static inline struct worker worker_of(const struct wire_joined *joined, uint32_t want)
{
	struct wire_claim what = by_token(joined, want);
	struct worker w = { .c = connect_as(WIRE_SHARD, -1) };

	assert_int_equal(claim_on(&w.c, &what, -1, &w), 0);
	return w;
}

static inline void worker_end(struct worker *w)
{
	if (w->fd >= 0)
		close(w->fd);
	if (w->page)
		munmap(w->page, WIRE_PAGE_BYTES);
	close(w->c.fd);
}

static inline void worker_close(struct worker *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	assert_int_equal(leave(&w->c, WIRE_CLOSED), 0);
	worker_end(w);
}

/* A shard whose page is mapped here too, so that a test can touch the socket as the preload does. */
struct opener {
	struct shard_conn s;
	struct wire_page *page;
};

/* @prepare: options of the socket before it listens; or NULL */
static inline struct opener open_with(const struct wire_reserve *w, void (*prepare)(int fd))
{
	struct opener o = { .s.c = connect_as(WIRE_SHARD, -1) };
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_RESERVE;
	p.body.reserve = *w;
	assert_int_equal(keeper_ask(sys_get(), &o.s.c, &p), 0);
	assert_int_equal(p.n_fds, 1);
	o.page = mmap(NULL, WIRE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p.fds[0], 0);
	assert_ptr_not_equal(o.page, MAP_FAILED);
	close(p.fds[0]);
	o.s.fd = open_socket(&w->addr, true);
	if (prepare)
		prepare(o.s.fd);
	assert_int_equal(join(&o.s.c, &w->addr, o.s.fd, &o.s.joined), 0);
	return o;
}

static inline struct opener opener_up(void)
{
	struct wire_reserve w = wanted(tcp(), "a");

	w.hold_ms = 100;
	return open_with(&w, NULL);
}

static inline void opener_close(struct opener *o)
{
	munmap(o->page, WIRE_PAGE_BYTES);
	shard_close(&o->s);
}

static inline uint32_t claimed(const struct wire_page *page)
{
	return atomic_load(&page->claimed);
}

static inline int client_of(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(connect(fd, (struct sockaddr *)&ss, len), errno);
	return fd;
}

static inline unsigned buckets(unsigned i)
{
	return look().slot[i].buckets;
}

static inline void set_int(int fd, int level, int name, int value)
{
	assert_return_code(setsockopt(fd, level, name, &value, sizeof(value)), errno);
}

#endif

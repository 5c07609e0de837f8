/* The keeper and processes that share a listening socket: who accepts from it, who gets another one
 * made like it, who only holds it. */
#include "keeper_fixture.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
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

static int claim_on(struct keeper_client *c, const struct wire_claim *what, int fd,
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

static struct wire_claim by_token(const struct wire_joined *joined, uint32_t want)
{
	struct wire_claim what = { .want = want };

	memcpy(what.token, joined->token, WIRE_TOKEN);
	return what;
}

static struct worker worker_of(const struct wire_joined *joined, uint32_t want)
{
	struct wire_claim what = by_token(joined, want);
	struct worker w = { .c = connect_as(WIRE_SHARD, -1) };

	assert_int_equal(claim_on(&w.c, &what, -1, &w), 0);
	return w;
}

static void worker_end(struct worker *w)
{
	if (w->fd >= 0)
		close(w->fd);
	if (w->page)
		munmap(w->page, WIRE_PAGE_BYTES);
	close(w->c.fd);
}

static void worker_close(struct worker *w)
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
static struct opener open_with(const struct wire_reserve *w, void (*prepare)(int fd))
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

static struct opener opener_up(void)
{
	struct wire_reserve w = wanted(tcp(), "a");

	w.hold_ms = 100;
	return open_with(&w, NULL);
}

static void opener_close(struct opener *o)
{
	munmap(o->page, WIRE_PAGE_BYTES);
	shard_close(&o->s);
}

static uint32_t claimed(const struct wire_page *page)
{
	return atomic_load(&page->claimed);
}

static int client_of(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(connect(fd, (struct sockaddr *)&ss, len), errno);
	return fd;
}

static unsigned buckets(unsigned i)
{
	return look().slot[i].buckets;
}

static void the_first_claimant_keeps_the_socket_and_the_second_gets_another(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN), two, three;
	struct view v;

	(void)state;
	assert_int_equal(one.joined.made, 0);
	assert_int_equal(one.joined.why, 0);
	assert_int_equal(one.joined.slot, o.s.joined.slot);
	assert_null(one.page);
	assert_int_equal(claimed(o.page), WIRE_BY_CLAIM);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	three = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(two.joined.made, 1);
	assert_int_equal(two.joined.slot, 1);
	assert_int_equal(three.joined.slot, 2);
	assert_non_null(two.page);
	assert_int_equal(claimed(two.page), WIRE_BY_CLAIM);
	assert_int_not_equal(cookie_of(two.fd), cookie_of(o.s.fd));
	assert_memory_not_equal(two.joined.token, o.s.joined.token, WIRE_TOKEN);
	v = look();
	assert_int_equal(v.slots, 3);
	assert_int_equal(v.strangers, 0);
	assert_int_equal(v.group[0].steered, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(v.slot[i].state, WIRE_LIVE);
		assert_int_equal(v.slot[i].owners, 1);
		assert_in_range(v.slot[i].buckets, v.group[0].buckets / 3, v.group[0].buckets / 3 + 1);
	}
	worker_close(&three);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
	assert_int_equal(look().groups, 0);
}

static void what_a_made_socket_gets_can_be_accepted_from_it(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	int client[40], fds[2] = { o.s.fd, two.fd };
	unsigned got[2] = { 0, 0 };

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		client[i] = client_of(&w.addr);
	for (unsigned i = 0; i < 2; i++) {
		struct pollfd p = { .fd = fds[i], .events = POLLIN };

		while (poll(&p, 1, 0) == 1) {
			close(accept4(fds[i], NULL, NULL, SOCK_CLOEXEC));
			got[i]++;
		}
	}
	assert_int_equal(got[0] + got[1], 40);
	assert_int_not_equal(got[0], 0);
	assert_int_not_equal(got[1], 0);
	for (unsigned i = 0; i < 40; i++)
		close(client[i]);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

static int int_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_return_code(getsockopt(fd, level, name, &value, &len), errno);
	return value;
}

static void set_int(int fd, int level, int name, int value)
{
	assert_return_code(setsockopt(fd, level, name, &value, sizeof(value)), errno);
}

static const int options[][3] = {
	{ SOL_SOCKET, SO_KEEPALIVE, 1 }, { SOL_SOCKET, SO_RCVBUF, 30000 },
	{ SOL_SOCKET, SO_SNDBUF, 40001 }, { SOL_SOCKET, SO_PRIORITY, 3 },
	{ SOL_SOCKET, SO_TIMESTAMPNS, 1 }, { IPPROTO_TCP, TCP_NODELAY, 1 },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 5 }, { IPPROTO_TCP, TCP_KEEPIDLE, 77 },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 9000 }, { IPPROTO_TCP, TCP_FASTOPEN, 7 },
	{ IPPROTO_IP, IP_TOS, 0x10 }, { IPPROTO_IP, IP_TTL, 33 },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static const struct linger lingers = { 1, 9 };
static const struct timeval timeout = { 3, 500000 };

static void set_options(int fd)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
	struct sock_fprog program = { 1, &all };

	for (size_t i = 0; i < OPTIONS; i++)
		set_int(fd, options[i][0], options[i][1], options[i][2]);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_LINGER, &lingers, sizeof(lingers)), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)),
	                   errno);
}

static void the_made_socket_has_the_same_options_and_backlog(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = open_with(&w, set_options);
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct tcp_info info;
	struct linger l;
	struct timeval t;
	socklen_t len = sizeof(l);

	(void)state;
	assert_int_equal(two.joined.made, 1);
	for (size_t i = 0; i < OPTIONS; i++)
		assert_int_equal(int_of(two.fd, options[i][0], options[i][1]),
		                 int_of(o.s.fd, options[i][0], options[i][1]));
	assert_int_equal(int_of(two.fd, SOL_SOCKET, SO_RCVBUF), 60000);
	assert_int_equal(int_of(two.fd, SOL_SOCKET, SO_BUF_LOCK), 3);
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_LINGER, &l, &len), errno);
	assert_memory_equal(&l, &lingers, sizeof(l));
	len = sizeof(t);
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len), errno);
	assert_memory_equal(&t, &timeout, sizeof(t));
	len = 0;
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len), errno);
	assert_int_equal(len, 1);
	len = sizeof(info);
	assert_return_code(getsockopt(two.fd, IPPROTO_TCP, TCP_INFO, &info, &len), errno);
	assert_int_equal(info.tcpi_sacked, 64); /* the fixture's backlog */
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

static void buffers_that_the_kernel_tunes_are_left_to_it(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	assert_int_equal(int_of(two.fd, SOL_SOCKET, SO_BUF_LOCK), 0);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

/* No getsockopt hands out an eBPF program. */
static void attach_ebpf_filter(int fd)
{
	/* bpf(2): r0 = 0xffff; exit */
	uint64_t insns[2] = { UINT64_C(0x0000ffff000000b7), UINT64_C(0x0000000000000095) };
	struct {
		uint32_t type, count;
		uint64_t insns, license;
		uint32_t rest[24];
	} load = { 1, 2, (uintptr_t)insns, (uintptr_t) "GPL", { 0 } };
	int program = (int)syscall(SYS_bpf, 5, &load, sizeof(load));

	if (program == -1)
		return;
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)),
	                   errno);
	close(program);
}

static void an_option_that_cannot_be_copied_leaves_the_socket_shared(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = open_with(&w, attach_ebpf_filter);
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	assert_int_equal(one.joined.why, 0);
	if (!two.joined.made) { /* else this system lets nobody load a program */
		assert_int_equal(two.joined.why, -EACCES);
		assert_string_equal(two.joined.option, "SO_ATTACH_FILTER");
		assert_int_equal(look().slots, 1);
		assert_int_equal(look().slot[0].owners, 2);
	}
	worker_close(&one);
	assert_int_equal(look().slot[look().slots - 1].state, WIRE_LIVE); /* the other one accepts */
	worker_close(&two);
	opener_close(&o);
}

static void while_the_opener_only_waits_for_events_the_others_share(void **state)
{
	struct opener o = opener_up();
	struct worker one;

	(void)state;
	atomic_store(&o.page->claimed, WIRE_POLLED);
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(one.joined.made, 0);
	assert_int_equal(one.joined.why, -EBUSY);
	assert_int_equal(claimed(o.page), WIRE_POLLED);
	assert_int_equal(look().slot[0].owners, 2);
	worker_close(&one);
	assert_int_equal(state_of(0), WIRE_LIVE);
	opener_close(&o);
}

static void beside_an_opener_that_accepts_a_worker_gets_its_own(void **state)
{
	struct opener o = opener_up();
	struct worker one;

	(void)state;
	atomic_store(&o.page->claimed, WIRE_ACCEPTED);
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(one.joined.made, 1);
	assert_int_equal(claimed(o.page), WIRE_ACCEPTED);
	assert_int_equal(look().slots, 2);
	worker_close(&one);
	opener_close(&o);
}

static void an_opener_that_comes_late_claims_on_its_own_connection(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN), late;
	struct wire_claim what = by_token(&o.s.joined, WIRE_WANT_OWN);
	struct view v;

	(void)state;
	assert_int_equal(claim_on(&o.s.c, &what, -1, &late), 0);
	assert_int_equal(late.joined.made, 1);
	v = look();
	assert_int_equal(v.slots, 2);
	assert_int_equal(v.slot[0].owners, 1);
	assert_int_equal(v.slot[1].owners, 1);
	worker_close(&one); /* nobody else has it: the opener has moved */
	assert_int_equal(look().slots, 1);
	close(o.s.fd);
	o.s.fd = late.fd;
	munmap(late.page, WIRE_PAGE_BYTES);
	opener_close(&o);
	assert_int_equal(look().groups, 0);
}

static void a_socket_whose_claimant_died_waits_without_buckets_for_the_next(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN), three;

	(void)state;
	worker_end(&one);
	await(state_of(0) == WIRE_EMPTY);
	assert_int_equal(claimed(o.page), WIRE_UNCLAIMED);
	assert_int_equal(buckets(0), 0);
	assert_int_equal(buckets(1), look().group[0].buckets);
	assert_int_equal(look().slot[0].owners, 0);
	assert_int_equal(look().slot[0].pid, 0);
	assert_int_not_equal(look().slot[0].parent, 0);
	three = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(three.joined.made, 0);
	assert_int_equal(three.joined.slot, 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(buckets(0), look().group[0].buckets / 2);
	worker_close(&three);
	worker_close(&two);
	opener_close(&o);
}

static void when_every_worker_is_dead_the_held_socket_has_the_buckets(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	int client[4];

	(void)state;
	worker_end(&one);
	await(state_of(0) == WIRE_EMPTY);
	worker_end(&two);
	await(buckets(0) == look().group[0].buckets);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	for (unsigned i = 0; i < 4; i++)
		client[i] = client_of(&w.addr);
	await(look().slots == 1); /* hold= of the made one has passed */
	assert_int_equal(look().slot[0].queue, 4);
	assert_int_equal(look().group[0].lost, 0);
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(look().slot[0].queue, 4);
	for (unsigned i = 0; i < 4; i++)
		close(client[i]);
	worker_close(&one);
	opener_close(&o);
}

static void a_worker_that_comes_again_has_the_slot_of_the_one_that_died(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o;
	struct worker one, two, three, again;

	(void)state;
	w.hold_ms = LONG_MS;
	o = open_with(&w, NULL);
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	three = worker_of(&o.s.joined, WIRE_WANT_OWN);
	worker_end(&two);
	await(state_of(1) == WIRE_ORPHAN);
	again = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(again.joined.made, 1);
	assert_int_equal(again.joined.slot, 1);
	assert_int_equal(again.joined.generation, 2);
	assert_int_equal(look().slots, 3);
	worker_close(&again);
	worker_close(&three);
	worker_close(&one);
	opener_close(&o);
}

/* As after a reload that ends all workers before the new ones are there. */
static void the_next_worker_has_the_socket_of_one_that_is_gone_and_what_waits_in_it(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o;
	struct worker one, two, three, four;
	int client[40], waiting = 0, got;
	uint64_t cookie;
	struct pollfd p;

	(void)state;
	w.hold_ms = LONG_MS;
	o = open_with(&w, NULL);
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	cookie = cookie_of(two.fd);
	for (unsigned i = 0; i < 40; i++)
		client[i] = client_of(&w.addr);
	worker_end(&one);
	worker_end(&two);
	await(look().slot[0].state == WIRE_EMPTY && look().slot[1].state == WIRE_ORPHAN);
	three = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(three.joined.made, 0);
	four = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(four.joined.made, 1);
	assert_int_equal(four.joined.slot, two.joined.slot);
	assert_int_equal(cookie_of(four.fd), cookie);
	assert_memory_not_equal(four.joined.token, two.joined.token, WIRE_TOKEN);
	assert_non_null(four.page);
	assert_int_equal(claimed(four.page), WIRE_BY_CLAIM);
	assert_int_equal(look().slots, 2);
	p = (struct pollfd){ .fd = four.fd, .events = POLLIN };
	for (; poll(&p, 1, 0) == 1; waiting++) {
		got = accept4(four.fd, NULL, NULL, SOCK_CLOEXEC);
		assert_return_code(got, errno);
		close(got);
	}
	assert_in_range(waiting, 5, 40);
	for (unsigned i = 0; i < 40; i++)
		close(client[i]);
	worker_close(&four);
	worker_close(&three);
	opener_close(&o);
}

/* Two workers end on purpose, and one comes. */
static void a_worker_in_a_slot_that_was_left_has_an_even_share(void **state)
{
	struct opener o = opener_up();
	struct worker w[8];
	struct view v;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		w[i] = worker_of(&o.s.joined, WIRE_WANT_OWN);
	for (unsigned i = 4; i < 8; i++)
		worker_close(&w[i]);
	worker_close(&w[3]);
	await(look().slots == 3);
	w[3] = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(w[3].joined.slot, 3);
	v = look();
	assert_int_equal(v.slots, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(v.slot[i].buckets, v.group[0].buckets / 4 - 1, v.group[0].buckets / 4 + 1);
	for (unsigned i = 4; i-- > 0;)
		worker_close(&w[i]);
	opener_close(&o);
}

static void the_last_worker_that_leaves_does_not_take_the_masters_socket_along(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	worker_close(&one);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	worker_close(&two);
	assert_int_equal(look().slots, 1);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	assert_int_equal(buckets(0), look().group[0].buckets);
	opener_close(&o);
	assert_int_equal(look().groups, 0);
}

/* As the preload does when it finds 0: without a word. */
/* As uWSGI reloads: all workers exit, and the master goes on by exec. */
static void what_waits_at_the_last_workers_exit_waits_for_the_next_one(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct wire_packet p;
	int client[4];

	(void)state;
	worker_close(&one);
	assert_int_equal(buckets(0), 0);
	for (unsigned i = 0; i < 4; i++)
		client[i] = client_of(&w.addr);
	memset(&p, 0, sizeof(p));
	assert_int_equal(ask(&two.c, WIRE_CLEAN_EXIT, &p), 0);
	worker_end(&two);
	await(buckets(0) == look().group[0].buckets);
	for (int64_t until = now_ms() + 300; now_ms() < until; short_pause())
		assert_int_equal(look().group[0].lost, 0);
	assert_int_equal(look().slots, 2);
	for (unsigned i = 0; i < 4; i++)
		close(client[i]);
	opener_close(&o);
}

/* As haproxy reloads: the next worker holds its sockets before it takes them up one after the other. */
static void sockets_that_lose_their_claimants_one_by_one_have_even_shares_with_the_next(void **state)
{
	struct opener a = opener_up(), b = opener_up();
	struct worker one = worker_of(&a.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&b.s.joined, WIRE_WANT_OWN);

	(void)state;
	worker_close(&two);
	assert_int_equal(buckets(1), 0);
	worker_close(&one);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	assert_int_equal(buckets(0), look().group[0].buckets / 2);
	one = worker_of(&a.s.joined, WIRE_WANT_OWN);
	two = worker_of(&b.s.joined, WIRE_WANT_OWN);
	assert_int_equal(state_of(1), WIRE_LIVE);
	assert_int_equal(buckets(0), look().group[0].buckets / 2);
	assert_int_equal(buckets(1), look().group[0].buckets / 2);
	worker_close(&two);
	worker_close(&one);
	opener_close(&b);
	opener_close(&a);
}

static void a_master_that_closes_after_its_workers_frees_the_port_at_once(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_process master;
	struct worker one;

	(void)state;
	w.hold_ms = LONG_MS;
	master = shard_fork(&w);
	one = worker_of(&master.joined, WIRE_WANT_OWN);
	worker_close(&one);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	shard_order(&master, 's');
	shard_order(&master, 'c');
	await(look().groups == 0);
	shard_kill(&master);
	shard_forget(&master);
}

/* lighttpd's: it closes the listener and exits, while its last worker says that it leaves. */
static void a_master_that_ends_while_its_last_worker_leaves_does_not_hold_the_port(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_process master;
	struct wire_packet p;
	struct worker one;

	(void)state;
	w.hold_ms = LONG_MS;
	master = shard_fork(&w);
	one = worker_of(&master.joined, WIRE_WANT_OWN);
	shard_order(&master, 's');
	shard_order(&master, 'c');
	assert_int_equal(state_of(0), WIRE_LIVE); /* the keeper has seen that the connection has ended */
	assert_int_equal(kill(keeper_pid, SIGSTOP), 0);
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_LEAVE;
	p.body.leave.action = WIRE_CLOSED;
	assert_int_equal(keeper_tell(sys_get(), &one.c, &p), 0);
	shard_kill(&master); /* it hears of this after that */
	assert_int_equal(kill(keeper_pid, SIGCONT), 0);
	assert_int_equal(keeper_hear(sys_get(), &one.c, &p), 0);
	await(look().groups == 0);
	worker_end(&one);
	shard_forget(&master);
}

static void an_opener_that_begins_to_accept_is_noticed(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	worker_close(&one);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	atomic_store(&o.page->claimed, WIRE_ACCEPTED);
	await(state_of(0) == WIRE_LIVE);
	assert_int_equal(buckets(0), look().group[0].buckets / 2);
	worker_close(&two);
	opener_close(&o);
}

static void a_claim_that_is_repeated_makes_no_second_socket(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN), same;
	struct wire_claim what = by_token(&o.s.joined, WIRE_WANT_OWN);

	(void)state;
	assert_int_equal(claim_on(&two.c, &what, -1, &same), 0);
	assert_int_equal(same.joined.made, 1);
	assert_int_equal(cookie_of(same.fd), cookie_of(two.fd));
	assert_int_equal(look().slots, 2);
	close(same.fd);
	munmap(same.page, WIRE_PAGE_BYTES);
	assert_int_equal(claim_on(&one.c, &what, -1, &same), 0);
	assert_int_equal(same.joined.made, 0);
	assert_int_equal(same.joined.why, 0);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

static void who_only_holds_a_socket_gets_token_and_page_and_keeps_it(void **state)
{
	struct opener o = opener_up();
	struct worker holder = { .c = connect_as(WIRE_SHARD, -1) }, one;
	struct wire_claim what = { .cookie = cookie_of(o.s.fd), .want = WIRE_WANT_HOLD };
	struct wire_page *page = o.page;

	(void)state;
	assert_int_equal(claim_on(&holder.c, &what, o.s.fd, &holder), 0);
	assert_int_equal(holder.joined.made, 0);
	assert_memory_equal(holder.joined.token, o.s.joined.token, WIRE_TOKEN);
	assert_non_null(holder.page);
	atomic_store(&page->claimed, WIRE_POLLED);
	assert_int_equal(claimed(holder.page), WIRE_POLLED);
	atomic_store(&page->claimed, WIRE_UNCLAIMED);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(leave(&o.s.c, WIRE_CLOSED), 0);
	assert_int_equal(state_of(0), WIRE_EMPTY);
	assert_int_equal(buckets(0), look().group[0].buckets);
	one = worker_of(&holder.joined, WIRE_WANT_OWN);
	assert_int_equal(one.joined.made, 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	worker_close(&one);
	worker_close(&holder);
	munmap(o.page, WIRE_PAGE_BYTES);
	close(o.s.fd);
	close(o.s.c.fd);
	await(look().groups == 0);
}

static void a_cookie_without_its_socket_proves_nothing(void **state)
{
	struct opener o = opener_up();
	struct wire_claim what = { .cookie = cookie_of(o.s.fd), .want = WIRE_WANT_OWN };
	struct worker w = { .c = connect_as(WIRE_SHARD, -1) };
	int other = open_socket(&(struct addr){ .family = AF_INET, .proto = IPPROTO_TCP }, true);

	(void)state;
	assert_int_equal(claim_on(&w.c, &what, -1, &w), -EBADF);
	assert_int_equal(claim_on(&w.c, &what, other, &w), -EBADF);
	assert_int_equal(claim_on(&w.c, &what, STDIN_FILENO, &w), -EBADF);
	what.cookie = cookie_of(other);
	assert_int_equal(claim_on(&w.c, &what, other, &w), -ENOENT);
	what.cookie = cookie_of(o.s.fd);
	assert_int_equal(claim_on(&w.c, &what, o.s.fd, &w), 0);
	assert_int_equal(w.joined.made, 0);
	close(other);
	worker_close(&w);
	opener_close(&o);
}

static void an_unknown_want_is_refused(void **state)
{
	struct opener o = opener_up();
	struct wire_claim what = by_token(&o.s.joined, WIRE_WANT_HOLD + 1);
	struct worker w = { .c = connect_as(WIRE_SHARD, -1) };

	(void)state;
	assert_int_equal(claim_on(&w.c, &what, -1, &w), -ECONNRESET);
	close(w.c.fd);
	opener_close(&o);
}

static void a_connection_claims_no_second_socket(void **state)
{
	struct opener a = opener_up(), b = opener_up();
	struct worker one = worker_of(&a.s.joined, WIRE_WANT_OWN), w;
	struct wire_claim what = by_token(&b.s.joined, WIRE_WANT_OWN);

	(void)state;
	assert_int_equal(claim_on(&one.c, &what, -1, &w), -EBADF);
	worker_close(&one);
	opener_close(&b);
	opener_close(&a);
}

static void workers_of_a_made_socket_can_claim_that(void **state)
{
	struct opener o = opener_up();
	struct worker one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	struct worker child = worker_of(&two.joined, WIRE_WANT_HOLD), next;

	(void)state;
	worker_end(&two); /* a daemon forks twice */
	await(state_of(1) == WIRE_EMPTY);
	next = worker_of(&two.joined, WIRE_WANT_OWN);
	assert_int_equal(next.joined.made, 0);
	assert_int_equal(next.joined.slot, 1);
	worker_close(&next);
	worker_close(&child);
	worker_close(&one);
	opener_close(&o);
}

/* Of another user: by its token it may, and a descriptor is refused. */
static void another_users_worker_gets_a_socket_by_its_token(void **state)
{
	struct opener o = opener_up();
	struct worker one;
	int status;
	pid_t child;

	(void)state;
	if (geteuid() != 0) {
		opener_close(&o);
		print_message("  not allowed: to become another user\n");
		skip();
	}
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	child = fork();
	if (child == 0) {
		struct wire_claim what = by_token(&o.s.joined, WIRE_WANT_OWN);
		struct worker w;

		if (setresgid(65533, 65533, 65533) == -1 || setresuid(65533, 65533, 65533) == -1)
			_exit(1);
		w.c = connect_as(WIRE_SHARD, -1);
		if (claim_on(&w.c, &what, -1, &w) != 0 || !w.joined.made || w.fd < 0 || !w.page)
			_exit(2);
		what.cookie = cookie_of(o.s.fd);
		w.c = connect_as(WIRE_SHARD, -1);
		_exit(claim_on(&w.c, &what, o.s.fd, &w) == -ECONNRESET ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	await(look().slots == 1);
	worker_close(&one);
	opener_close(&o);
}

static void a_listener_without_a_legacy_joins_as_it_is(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	int fd = open_socket(&w.addr, false), on = 1;
	struct wire_packet p;
	struct shard_conn s;
	struct worker one, two;

	(void)state;
	assert_return_code(listen(fd, 16), errno);
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, on);
	w.rejoins = 1;
	assert_int_equal(reserve(&c, &w), 0);
	memset(&p, 0, sizeof(p));
	p.body.rejoin.addr = w.addr;
	p.body.rejoin.cookie = cookie_of(fd);
	p.fds[0] = fd;
	p.n_fds = 1;
	assert_int_equal(ask(&c, WIRE_REJOIN, &p), 0);
	assert_int_equal(p.body.joined.slot, 0);
	s = (struct shard_conn){ .c = c, .joined = p.body.joined, .fd = fd };
	assert_int_equal(state_of(0), WIRE_LIVE);
	one = worker_of(&s.joined, WIRE_WANT_OWN);
	two = worker_of(&s.joined, WIRE_WANT_OWN);
	assert_int_equal(two.joined.made, 1);
	assert_int_equal(look().group[0].steered, 1);
	worker_close(&two);
	worker_close(&one);
	shard_close(&s);
}

/* --- a listener on its way from one process to another: its descriptor is neither one's */

static void defer(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 2);
}

static void one_that_is_left_before_it_is_received_is_no_longer_emptied_then(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct opener a = open_with(&w, defer), b = open_with(&w, defer);
	struct worker one = { .c = connect_as(WIRE_SHARD, -1) };
	struct wire_claim what = { .cookie = cookie_of(a.s.fd), .want = WIRE_WANT_OWN };
	int client[16];

	(void)state;
	for (unsigned i = 0; i < 16; i++) /* half open until it says something, so a is not gone at once */
		client[i] = client_of(&w.addr);
	assert_int_equal(leave(&a.s.c, WIRE_CLOSED), 0);
	assert_int_equal(state_of(0), WIRE_DRAINING);
	assert_int_equal(claim_on(&one.c, &what, a.s.fd, &one), 0);
	assert_int_equal(one.joined.slot, 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(buckets(0), look().group[0].buckets / 2);
	assert_int_equal(look().strangers, 0);
	close(a.s.c.fd);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(write(client[i], "x", 1), 1);
	await(look().slot[0].queue + look().slot[1].queue == 16);
	assert_int_not_equal(look().slot[0].queue, 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	for (unsigned i = 0; i < 16; i++)
		close(client[i]);
	close(a.s.fd);
	worker_close(&one);
	munmap(a.page, WIRE_PAGE_BYTES);
	opener_close(&b);
}

static void what_waits_in_one_that_still_listens_is_not_lost(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct keeper_client next = connect_as(WIRE_SHARD, -1);
	struct opener o = opener_up();
	struct wire_packet p;
	int client[3];

	(void)state;
	w.rejoins = 1;
	assert_int_equal(reserve(&next, &w), 0);
	for (unsigned i = 0; i < 3; i++)
		client[i] = client_of(&w.addr);
	assert_int_equal(leave(&o.s.c, WIRE_CLOSED), 0);
	assert_int_equal(look().slots, 0);
	assert_int_equal(look().strangers, 1);
	assert_int_equal(look().group[0].lost, 0);
	memset(&p, 0, sizeof(p));
	p.body.rejoin.addr = w.addr;
	p.body.rejoin.cookie = cookie_of(o.s.fd);
	p.fds[0] = o.s.fd;
	p.n_fds = 1;
	assert_int_equal(ask(&next, WIRE_REJOIN, &p), 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(look().slot[0].queue, 3);
	assert_int_equal(look().strangers, 0);
	for (unsigned i = 0; i < 3; i++)
		close(client[i]);
	close(o.s.fd);
	assert_int_equal(leave(&next, WIRE_CLOSED), 0);
	close(next.fd);
	close(o.s.c.fd);
	munmap(o.page, WIRE_PAGE_BYTES);
}

/* --- a worker that is a process: its connection and its life are two things */

struct process {
	pid_t pid;
	int orders; /* 'c': close the connection, 's': the socket, 'b': claim again, beside */
	int answers;
};

static void process_main(const struct opener *o, int orders, int answers)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct wire_claim what = by_token(&o->s.joined, WIRE_WANT_OWN);
	struct worker w = { .c = connect_as(WIRE_SHARD, pidfd) };
	char order;

	close(o->s.c.fd);
	if (claim_on(&w.c, &what, -1, &w) != 0 || write(answers, "", 1) != 1)
		_exit(1);
	while (read(orders, &order, 1) == 1) {
		what.want = WIRE_WANT_BESIDE;
		if (order == 'c')
			close(w.c.fd);
		else if (order == 's')
			close(o->s.fd);
		else if (order == 'b')
			w.c = connect_as(WIRE_SHARD, pidfd);
		if ((order == 'b' && claim_on(&w.c, &what, -1, &w) != 0) || write(answers, "", 1) != 1)
			_exit(1);
	}
	_exit(0);
}

static struct process process_up(const struct opener *o)
{
	int orders[2], answers[2];
	struct process p;
	char byte;

	assert_return_code(pipe(orders), errno);
	assert_return_code(pipe(answers), errno);
	p.pid = fork();
	if (p.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(control.fd);
		close(orders[1]);
		close(answers[0]);
		process_main(o, orders[0], answers[1]);
	}
	assert_return_code(p.pid, errno);
	close(orders[0]);
	close(answers[1]);
	p.orders = orders[1];
	p.answers = answers[0];
	assert_int_equal(read(p.answers, &byte, 1), 1);
	return p;
}

static void process_order(struct process *p, char order)
{
	char byte;

	assert_int_equal(write(p->orders, &order, 1), 1);
	assert_int_equal(read(p->answers, &byte, 1), 1);
}

static void process_end(struct process *p)
{
	close(p->orders);
	close(p->answers);
	assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
}

static void a_claimant_that_lost_connection_and_socket_leaves_it_to_who_holds_it(void **state)
{
	struct opener o = opener_up();
	struct process one = process_up(&o);
	struct worker two;

	(void)state;
	process_order(&one, 's');
	process_order(&one, 'c');
	await(state_of(0) == WIRE_EMPTY);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(two.joined.made, 0);
	process_end(&one);
	assert_int_equal(state_of(0), WIRE_LIVE);
	worker_close(&two);
	opener_close(&o);
}

static void a_worker_has_the_process_that_opened_the_socket_as_its_parent(void **state)
{
	struct opener o = opener_up();
	struct process one = process_up(&o), two = process_up(&o);
	struct view v = look();

	(void)state;
	assert_int_equal(v.slots, 2);
	assert_int_equal(v.slot[0].pid, one.pid);
	assert_int_equal(v.slot[1].pid, two.pid);
	assert_int_equal(v.slot[0].parent, getpid());
	assert_int_equal(v.slot[1].parent, getpid());
	process_end(&two);
	process_end(&one);
	await(state_of(0) == WIRE_EMPTY);
	opener_close(&o);
}

static void a_claimant_that_comes_back_after_losing_its_connection_is_it_still(void **state)
{
	struct opener o = opener_up();
	struct process one = process_up(&o);
	struct worker two;

	(void)state;
	process_order(&one, 'c');
	process_order(&one, 'b');
	assert_int_equal(look().slot[0].owners, 1);
	assert_int_equal(claimed(o.page), WIRE_BY_CLAIM);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(two.joined.made, 1);
	worker_close(&two);
	process_end(&one);
	await(state_of(0) == WIRE_EMPTY);
	opener_close(&o);
}

/* --- a keeper that lacks the right to low ports */

#define LOW_PORT 81

static bool low_ports(bool allowed)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) == -1)
		return false;
	if (allowed)
		data[0].effective |= 1u << CAP_NET_BIND_SERVICE;
	else
		data[0].effective &= ~(1u << CAP_NET_BIND_SERVICE);
	return syscall(SYS_capset, &head, data) == 0;
}

static int keeper_without_right(void **state)
{
	(void)low_ports(false);
	(void)keeper_up(state);
	(void)low_ports(true);
	port = LOW_PORT;
	return 0;
}

static void without_the_right_to_a_low_port_the_socket_stays_shared(void **state)
{
	struct opener o;
	struct worker one, two;

	(void)state;
	if (!low_ports(true)) {
		print_message("  not allowed: to give up and regain a capability\n");
		skip();
	}
	o = opener_up();
	one = worker_of(&o.s.joined, WIRE_WANT_OWN);
	two = worker_of(&o.s.joined, WIRE_WANT_OWN);
	assert_int_equal(two.joined.made, 0);
	assert_int_equal(two.joined.why, -EACCES);
	assert_string_equal(two.joined.option, "");
	assert_int_equal(look().slots, 1);
	worker_close(&two);
	worker_close(&one);
	opener_close(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(the_first_claimant_keeps_the_socket_and_the_second_gets_another),
		KEEPER_TEST(what_a_made_socket_gets_can_be_accepted_from_it),
		KEEPER_TEST(the_made_socket_has_the_same_options_and_backlog),
		KEEPER_TEST(buffers_that_the_kernel_tunes_are_left_to_it),
		KEEPER_TEST(an_option_that_cannot_be_copied_leaves_the_socket_shared),
		KEEPER_TEST(while_the_opener_only_waits_for_events_the_others_share),
		KEEPER_TEST(beside_an_opener_that_accepts_a_worker_gets_its_own),
		KEEPER_TEST(an_opener_that_comes_late_claims_on_its_own_connection),
		KEEPER_TEST(a_socket_whose_claimant_died_waits_without_buckets_for_the_next),
		KEEPER_TEST(when_every_worker_is_dead_the_held_socket_has_the_buckets),
		KEEPER_TEST(a_worker_that_comes_again_has_the_slot_of_the_one_that_died),
		KEEPER_TEST(the_next_worker_has_the_socket_of_one_that_is_gone_and_what_waits_in_it),
		KEEPER_TEST(a_worker_in_a_slot_that_was_left_has_an_even_share),
		KEEPER_TEST(the_last_worker_that_leaves_does_not_take_the_masters_socket_along),
		KEEPER_TEST(what_waits_at_the_last_workers_exit_waits_for_the_next_one),
		KEEPER_TEST(sockets_that_lose_their_claimants_one_by_one_have_even_shares_with_the_next),
		KEEPER_TEST(a_master_that_closes_after_its_workers_frees_the_port_at_once),
		KEEPER_TEST(a_master_that_ends_while_its_last_worker_leaves_does_not_hold_the_port),
		KEEPER_TEST(an_opener_that_begins_to_accept_is_noticed),
		KEEPER_TEST(a_claim_that_is_repeated_makes_no_second_socket),
		KEEPER_TEST(who_only_holds_a_socket_gets_token_and_page_and_keeps_it),
		KEEPER_TEST(a_cookie_without_its_socket_proves_nothing),
		KEEPER_TEST(an_unknown_want_is_refused),
		KEEPER_TEST(a_connection_claims_no_second_socket),
		KEEPER_TEST(workers_of_a_made_socket_can_claim_that),
		KEEPER_TEST(another_users_worker_gets_a_socket_by_its_token),
		KEEPER_TEST(a_listener_without_a_legacy_joins_as_it_is),
		KEEPER_TEST(one_that_is_left_before_it_is_received_is_no_longer_emptied_then),
		KEEPER_TEST(what_waits_in_one_that_still_listens_is_not_lost),
		KEEPER_TEST(a_claimant_that_lost_connection_and_socket_leaves_it_to_who_holds_it),
		KEEPER_TEST(a_worker_has_the_process_that_opened_the_socket_as_its_parent),
		KEEPER_TEST(a_claimant_that_comes_back_after_losing_its_connection_is_it_still),
		cmocka_unit_test_setup_teardown(
			without_the_right_to_a_low_port_the_socket_stays_shared,
			keeper_without_right, keeper_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

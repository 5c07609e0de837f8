/* The keeper and claims of a socket by its descriptor: what is proof, of whom, and listeners that are sent
 * from one process to another. */
#include "claim_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(a_cookie_without_its_socket_proves_nothing),
		KEEPER_TEST(an_unknown_want_is_refused),
		KEEPER_TEST(a_connection_claims_no_second_socket),
		KEEPER_TEST(another_users_worker_gets_a_socket_by_its_token),
		KEEPER_TEST(a_listener_without_a_legacy_joins_as_it_is),
		KEEPER_TEST(one_that_is_left_before_it_is_received_is_no_longer_emptied_then),
		KEEPER_TEST(what_waits_in_one_that_still_listens_is_not_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

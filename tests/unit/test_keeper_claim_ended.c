/* The keeper and a socket whose claimants end, by death or on purpose: who has its buckets, its queue and
 * its slot then. */
#include "claim_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

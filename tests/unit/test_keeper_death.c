/* The keeper when processes and connections end: orphans, heirs, suspects and claims. */
#include "keeper_fixture.h"

#include "../../shim/keeper/state.h"

static struct wire_reserve held(uint32_t hold_ms)
{
	struct wire_reserve w = wanted(tcp(), "a");

	w.hold_ms = hold_ms;
	return w;
}

#define LONG_MS 60000
#define SEEN_MS 2000 /* of what is to be seen held, and then not */

static unsigned buckets_of(unsigned i)
{
	return look().slot[i].buckets;
}

static void a_dead_shards_buckets_go_to_the_others_and_its_socket_is_held(void **state)
{
	struct wire_reserve w = held(SEEN_MS);
	struct shard_process one = shard_fork(&w), two = shard_fork(&w), three = shard_fork(&w);
	struct view v;

	(void)state;
	shard_kill(&two);
	await(state_of(1) == WIRE_ORPHAN);
	v = look();
	assert_int_equal(v.slots, 3);
	assert_int_equal(v.slot[1].pid, two.pid);
	assert_int_equal(v.slot[1].buckets, 0);
	assert_int_equal(v.slot[0].buckets + v.slot[2].buckets, v.group[0].buckets);
	assert_int_equal(v.group[0].steered, 1);
	await(look().slots == 2); /* hold= has passed */
	assert_int_equal(look().group[0].steered, 1);
	shard_kill(&one);
	shard_kill(&three);
	await(look().groups == 0);
	assert_true(port_is_free(&w.addr));
	shard_forget(&one);
	shard_forget(&two);
	shard_forget(&three);
}

static void a_slot_that_comes_back_has_its_buckets_again(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_process s[3], again;
	unsigned before[3];
	struct view v;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		w.slot = i;
		s[i] = shard_fork(&w);
	}
	for (unsigned i = 0; i < 3; i++)
		before[i] = buckets_of(i);
	shard_kill(&s[1]);
	await(state_of(1) == WIRE_ORPHAN);
	w.slot = 1;
	again = shard_fork(&w);
	assert_int_equal(again.joined.slot, 1);
	assert_int_equal(again.joined.generation, 2);
	assert_int_equal(again.joined.wanted_taken, 0);
	v = look();
	assert_int_equal(v.slots, 3); /* the orphan's socket is gone */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(v.slot[i].buckets, before[i]);
	assert_int_equal(v.slot[1].state, WIRE_LIVE);
	shard_forget(&s[0]); /* end of orders: it exits */
	shard_forget(&s[2]);
	shard_forget(&again);
	shard_forget(&s[1]);
	for (unsigned i = 0; i < 3; i++)
		if (i != 1)
			waitpid(s[i].pid, NULL, 0);
	waitpid(again.pid, NULL, 0);
	/* No launcher and hold= of a minute: another group may have the port only after that. */
	await(state_of(0) == WIRE_ORPHAN && state_of(1) == WIRE_ORPHAN &&
	      state_of(2) == WIRE_ORPHAN);
	assert_false(port_is_free(&w.addr));
	for (unsigned i = 0; i < 3; i++) {
		struct shard_conn c;

		w.slot = i;
		w.hold_ms = 1;
		c = shard_of(&w);
		shard_close(&c);
	}
	await(look().groups == 0);
}

static void connections_that_nobody_could_take_are_counted_as_lost(void **state)
{
	struct wire_reserve w = held(100);
	struct keeper_client reserved = connect_as(WIRE_SHARD, -1);
	struct shard_process s = shard_fork(&w);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&w.addr, &ss);
	int client[4];

	(void)state;
	assert_int_equal(reserve(&reserved, &w), 0); /* keeps the group */
	for (unsigned i = 0; i < 4; i++) {
		client[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_return_code(connect(client[i], (struct sockaddr *)&ss, len), errno);
	}
	await(look().slot[0].queue == 4);
	shard_kill(&s);
	await(look().slots == 0);
	assert_int_equal(look().group[0].lost, 4);
	for (unsigned i = 0; i < 4; i++)
		close(client[i]);
	close(reserved.fd);
	shard_forget(&s);
}

static void without_a_pidfd_the_end_of_the_connection_is_a_death(void **state)
{
	struct wire_reserve w = held(SEEN_MS);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);

	(void)state;
	shard_crash(&one);
	await(state_of(0) == WIRE_ORPHAN);
	assert_int_equal(state_of(1), WIRE_LIVE);
	await(look().slots == 1);
	shard_close(&two);
}

/* exit(3) of a process that nobody has inherited from. */
static void a_clean_exit_is_no_crash(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);
	struct wire_packet p;

	(void)state;
	memset(&p, 0, sizeof(p));
	p.body.leave.action = WIRE_CLOSED;
	assert_int_equal(ask(&one.c, WIRE_CLEAN_EXIT, &p), 0);
	assert_int_equal(look().slots,
			 2); /* others live: released when the process is really gone */
	shard_crash(&one);
	await(look().slots == 1);
	memset(&p, 0, sizeof(p));
	p.body.leave.action = WIRE_CLOSED;
	assert_int_equal(ask(&two.c, WIRE_CLEAN_EXIT, &p), 0);
	close(two.fd);
	assert_true(port_is_free(&w.addr));
	close(two.c.fd);
}

static void a_clean_exit_that_leaves_an_heir_releases_nothing(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_conn s = shard_of(&w);
	struct wire_packet p;

	(void)state;
	memset(&p, 0, sizeof(p));
	p.body.leave.action = WIRE_INHERITED;
	assert_int_equal(ask(&s.c, WIRE_CLEAN_EXIT, &p), 0);
	assert_int_equal(look().slots, 1);
	shard_close(&s);
}

/* nginx: the process that listened has forked the one that accepts, and ends. */
static void what_an_heir_holds_keeps_its_buckets(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_process s = shard_fork(&w);
	struct shard_conn other = shard_of(&w);
	unsigned before = buckets_of(0);

	(void)state;
	shard_order(&s, 'f');
	shard_order(&s, 0); /* the heir is there and answers */
	shard_kill(&s);
	await(state_of(0) == WIRE_ORPHAN);
	assert_int_equal(buckets_of(0), before);
	shard_forget(&s); /* the heir ends */
	await(look().slots == 2 && buckets_of(0) == 0);
	shard_close(&other);
	await(look().groups == 0 && port_is_free(&w.addr));
}

static void an_heir_that_accepts_nothing_loses_its_buckets(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_process s = shard_fork(&w);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&w.addr, &ss);
	int client = socket(AF_INET, SOCK_STREAM, 0);
	struct shard_conn other;

	(void)state;
	assert_return_code(connect(client, (struct sockaddr *)&ss, len), errno);
	other = shard_of(&w);
	shard_order(&s, 'f');
	shard_order(&s, 0);
	shard_kill(&s);
	await(state_of(0) == WIRE_ORPHAN && buckets_of(0) == 0);
	close(client);
	shard_forget(&s);
	shard_close(&other); /* nobody is left who accepts */
	assert_int_equal(look().slots, 0);
	await(look().groups == 0 && port_is_free(&w.addr)); /* the heir has ended */
}

/* A loop that closed every descriptor took our connection too; the server may live on. */
static void a_process_that_lost_its_connection_only_stays_live(void **state)
{
	struct wire_reserve w = held(100);
	struct shard_process s = shard_fork(&w);

	(void)state;
	shard_order(&s, 'c');
	for (int i = 0; i < 50; i++) {
		assert_int_equal(state_of(0), WIRE_LIVE);
		short_pause();
	}
	assert_int_equal(buckets_of(0), look().group[0].buckets);
	shard_kill(&s);
	await(look().groups == 0);
	shard_forget(&s);
}

static void a_process_that_lost_connection_and_socket_has_left(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_process s = shard_fork(&w);

	(void)state;
	shard_order(&s, 's');
	shard_order(&s, 'c');
	await(look().groups == 0);
	assert_true(port_is_free(&w.addr));
	shard_kill(&s);
	shard_forget(&s);
}

/* nginx with its own `reuseport`: its master binds again while a worker of before still accepts. */
static void a_process_that_joins_anew_leaves_what_a_worker_accepts_from(void **state)
{
	struct wire_reserve w = held(100);
	struct shard_process s = shard_fork(&w);
	struct keeper_client worker = connect_as(WIRE_SHARD, -1);

	(void)state;
	assert_int_equal(claim(&worker, s.joined.token, NULL), 0);
	shard_order(&s, 's');
	shard_order(&s, 'c');
	shard_order(&s, 'j');
	assert_int_equal(look().slots, 2);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(state_of(1), WIRE_LIVE);
	assert_int_equal(buckets_of(0), buckets_of(1));
	assert_int_equal(leave(&worker, WIRE_CLOSED), 0);
	assert_int_equal(look().slots, 1);
	close(worker.fd);
	shard_kill(&s);
	await(look().groups == 0);
	shard_forget(&s);
}

static void a_process_that_joins_anew_leaves_what_it_has_still(void **state)
{
	struct wire_reserve w = held(100);
	struct shard_process s = shard_fork(&w);

	(void)state;
	shard_order(&s, 'c');
	shard_order(&s, 'j');
	assert_int_equal(look().slots, 2);
	assert_int_equal(state_of(0), WIRE_LIVE);
	assert_int_equal(look().strangers, 0);
	shard_kill(&s);
	await(look().groups == 0);
	shard_forget(&s);
}

/* What it has closed is being emptied: a client that says its first word late is still to come. */
static void a_process_that_joins_anew_ends_nothing_that_is_being_emptied(void **state)
{
	struct wire_reserve w = held(100);
	struct shard_process s = shard_fork(&w);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&w.addr, &ss);
	int client = socket(AF_INET, SOCK_STREAM, 0);
	struct shard_conn other;
	char byte;

	(void)state;
	shard_order(&s, 'd');
	assert_return_code(connect(client, (struct sockaddr *)&ss, len), errno);
	other = shard_of(&w);
	shard_order(&s, 's');
	shard_order(&s, 'c');
	await(state_of(0) == WIRE_DRAINING);
	shard_order(&s, 'j');
	assert_int_equal(state_of(0), WIRE_DRAINING);
	assert_int_equal(write(client, "x", 1), 1);
	await(look().slots == 2); /* it came, was taken out for the others, and nothing else can come */
	assert_int_equal(look().group[0].lost, 0);
	assert_int_equal(recv(client, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN); /* neither ended nor reset */
	close(client);
	shard_kill(&s);
	shard_close(&other);
	await(look().groups == 0);
	shard_forget(&s);
}

static void the_token_proves_an_heir(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_conn s = shard_of(&w);
	struct keeper_client heir = connect_as(WIRE_SHARD, -1);
	struct wire_joined joined;

	(void)state;
	assert_int_equal(claim(&heir, s.joined.token, &joined), 0);
	assert_int_equal(joined.slot, s.joined.slot);
	assert_memory_equal(joined.token, s.joined.token, WIRE_TOKEN);
	shard_crash(&s);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(state_of(0), WIRE_LIVE);
		short_pause();
	}
	assert_int_equal(leave(&heir, WIRE_CLOSED), 0);
	assert_true(port_is_free(&w.addr));
	close(heir.fd);
}

static void a_socket_with_two_owners_stays_when_one_closes_it(void **state)
{
	struct wire_reserve w = held(LONG_MS);
	struct shard_conn s = shard_of(&w);
	struct keeper_client heir = connect_as(WIRE_SHARD, -1);

	(void)state;
	assert_int_equal(claim(&heir, s.joined.token, NULL), 0);
	assert_int_equal(leave(&s.c, WIRE_CLOSED), 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	close(s.fd);
	close(s.c.fd);
	assert_int_equal(leave(&heir, WIRE_CLOSED), 0);
	assert_true(port_is_free(&w.addr));
	close(heir.fd);
}

static void a_wrong_token_proves_nothing(void **state)
{
	struct shard_conn s = shard_up("a");
	struct keeper_client heir = connect_as(WIRE_SHARD, -1);
	uint8_t token[WIRE_TOKEN] = {0};

	(void)state;
	assert_int_equal(claim(&heir, token, NULL), -ENOENT);
	memcpy(token, s.joined.token, sizeof(token));
	token[WIRE_TOKEN - 1] ^= 1;
	assert_int_equal(claim(&heir, token, NULL), -ENOENT);
	assert_int_equal(claim(&heir, s.joined.token, NULL), 0);
	close(heir.fd);
	shard_close(&s);
}

static void a_token_ends_with_its_socket(void **state)
{
	struct shard_conn s = shard_up("a"), other = shard_up("a");
	struct keeper_client heir = connect_as(WIRE_SHARD, -1);

	(void)state;
	shard_close(&s);
	assert_int_equal(claim(&heir, s.joined.token, NULL), -ENOENT);
	assert_memory_not_equal(s.joined.token, other.joined.token, WIRE_TOKEN);
	close(heir.fd);
	shard_close(&other);
}

static int client_of(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* hitch's workers: the new ones bind while the old ones close. */
static void what_waits_at_the_last_one_that_leaves_waits_for_who_has_bound(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn old = shard_up("a"), next = { .c = connect_as(WIRE_SHARD, -1) };
	int64_t begin = now_ms();
	int before = client_of(&w.addr), between, r;

	(void)state;
	assert_return_code(before, errno);
	assert_int_equal(reserve(&next.c, &w), 0);
	next.fd = open_socket(&w.addr, true);
	shard_close(&old);
	between = client_of(&w.addr);
	r = join(&next.c, &w.addr, next.fd, NULL);
	if (now_ms() - begin < AWAIT_MS) { /* else nobody waits for it any more */
		assert_true(between >= 0);
		assert_int_equal(r, 0);
		assert_int_equal(look().group[0].lost, 0);
		assert_true(look().group[0].steered);
	}
	close(before);
	close(between);
	shard_close(&next);
	await(look().groups == 0);
}

static void who_has_bound_and_does_not_listen_does_not_keep_the_port(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn old = shard_up("a");
	struct keeper_client next = connect_as(WIRE_SHARD, -1);

	(void)state;
	assert_int_equal(reserve(&next, &w), 0);
	shard_close(&old);
	await(look().slots == 0);
	await(port_is_free(&w.addr));
	close(next.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(a_dead_shards_buckets_go_to_the_others_and_its_socket_is_held),
		KEEPER_TEST(a_slot_that_comes_back_has_its_buckets_again),
		KEEPER_TEST(connections_that_nobody_could_take_are_counted_as_lost),
		KEEPER_TEST(without_a_pidfd_the_end_of_the_connection_is_a_death),
		KEEPER_TEST(a_clean_exit_is_no_crash),
		KEEPER_TEST(a_clean_exit_that_leaves_an_heir_releases_nothing),
		KEEPER_TEST(what_an_heir_holds_keeps_its_buckets),
		KEEPER_TEST(an_heir_that_accepts_nothing_loses_its_buckets),
		KEEPER_TEST(a_process_that_lost_its_connection_only_stays_live),
		KEEPER_TEST(a_process_that_lost_connection_and_socket_has_left),
		KEEPER_TEST(a_process_that_joins_anew_leaves_what_a_worker_accepts_from),
		KEEPER_TEST(a_process_that_joins_anew_leaves_what_it_has_still),
		KEEPER_TEST(a_process_that_joins_anew_ends_nothing_that_is_being_emptied),
		KEEPER_TEST(the_token_proves_an_heir),
		KEEPER_TEST(a_socket_with_two_owners_stays_when_one_closes_it),
		KEEPER_TEST(a_wrong_token_proves_nothing),
		KEEPER_TEST(a_token_ends_with_its_socket),
		KEEPER_TEST(what_waits_at_the_last_one_that_leaves_waits_for_who_has_bound),
		KEEPER_TEST(who_has_bound_and_does_not_listen_does_not_keep_the_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

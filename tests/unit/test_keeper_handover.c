/* The keeper with mode handover: who has the buckets, and what proves that a shard is ready. And what
 * key=cpu and key=random make of a group. */
#include "keeper_fixture.h"

#define LONG_MS 60000

static struct wire_reserve handing_over(struct addr a)
{
	struct wire_reserve w = wanted(a, "a");

	w.mode = WIRE_MODE_HANDOVER;
	w.hold_ms = LONG_MS;
	return w;
}

/* The slot that has all buckets; -1: they are divided. */
static int newest(void)
{
	struct view v = look();

	for (unsigned i = 0; i < v.slots; i++)
		if (v.slot[i].buckets == v.group[0].buckets)
			return (int)v.slot[i].slot;
	return -1;
}

static int next_client(const struct shard_conn *s)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int fd;

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	assert_return_code(fd, errno);
	return fd;
}

static void ends_of(int fd, struct wire_ask *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(ret, 0, sizeof(*ret));
	assert_return_code(getpeername(fd, (struct sockaddr *)&ss, &len), errno);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, len, &ret->peer), 0);
	len = sizeof(ss);
	assert_return_code(getsockname(fd, (struct sockaddr *)&ss, &len), errno);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, len, &ret->local), 0);
}

/* As the preload swallows it. */
static void answer_probe(struct shard_conn *s)
{
	int fd = next_client(s);
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	ends_of(fd, &p.body.ask);
	assert_int_equal(ask(&s->c, WIRE_ASK, &p), 0);
	assert_int_equal(p.body.given.nudge, 1);
	assert_int_equal(p.body.given.gift, 0);
	close(fd);
}

static void the_first_shard_has_all_before_it_has_proven_anything(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w);
	struct view v = look();

	(void)state;
	assert_int_equal(v.group[0].mode, WIRE_MODE_HANDOVER);
	assert_int_equal(v.group[0].steered, 1);
	assert_int_equal(v.slot[0].buckets, v.group[0].buckets);
	answer_probe(&one);
	assert_int_equal(newest(), 0);
	shard_close(&one);
}

static void the_newest_has_all_once_it_has_answered_a_probe(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w), two;

	(void)state;
	answer_probe(&one);
	two = shard_of(&w);
	assert_int_equal(two.joined.slot, 1);
	assert_int_equal(newest(), 0);
	answer_probe(&two);
	assert_int_equal(newest(), 1);
	shard_close(&one);
	assert_int_equal(newest(), 1);
	shard_close(&two);
}

static void newest_is_who_joined_last_whatever_its_slot(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn s[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		w.slot = 7 - i;
		s[i] = shard_of(&w);
		answer_probe(&s[i]);
		assert_int_equal(newest(), 7 - i);
	}
	shard_crash(&s[2]);
	await(newest() == 6);
	shard_crash(&s[0]);
	await(look().slot[2].state == WIRE_ORPHAN);
	assert_int_equal(newest(), 6);
	shard_close(&s[1]);
}

static void the_one_before_takes_over_when_the_newest_dies_or_leaves(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn s[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		s[i] = shard_of(&w);
		answer_probe(&s[i]);
	}
	shard_crash(&s[2]);
	await(newest() == 1);
	shard_close(&s[1]);
	assert_int_equal(newest(), 0);
	shard_close(&s[0]);
}

static void while_nobody_has_proven_anything_the_oldest_has_all(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w), two = shard_of(&w);

	(void)state;
	assert_int_equal(newest(), 0);
	answer_probe(&two);
	assert_int_equal(newest(), 1);
	answer_probe(&one);
	assert_int_equal(newest(), 1);
	shard_close(&one);
	shard_close(&two);
}

/* The newcomer takes the record of the one that left, in front of the other. */
static void who_has_not_answered_is_behind_whoever_has(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w), two, three;

	(void)state;
	answer_probe(&one);
	two = shard_of(&w);
	answer_probe(&two);
	shard_close(&one);
	await(look().slots == 1);
	three = shard_of(&w);
	assert_int_equal(three.joined.slot, 0);
	assert_int_equal(newest(), 1);
	answer_probe(&three);
	assert_int_equal(newest(), 0);
	shard_close(&two);
	shard_close(&three);
}

static void a_shard_that_cannot_be_asked_is_ready_when_it_joins(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w), two = {.c = connect_as(WIRE_SHARD, -1)};
	struct wire_packet p;

	(void)state;
	answer_probe(&one);
	memset(&p, 0, sizeof(p));
	assert_int_equal(ask(&two.c, WIRE_DEAF, &p), 0);
	assert_int_equal(reserve(&two.c, &w), 0);
	two.fd = open_socket(&w.addr, true);
	assert_int_equal(join(&two.c, &w.addr, two.fd, &two.joined), 0);
	await(newest() == 1);
	shard_close(&one);
	shard_close(&two);
}

static void a_shard_that_takes_a_probe_for_a_client_is_ready_all_the_same(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w), two;
	int client;

	(void)state;
	answer_probe(&one);
	two = shard_of(&w);
	client = next_client(&two);
	assert_int_equal(newest(), 0);
	await(newest() == 1); /* three seconds */
	close(client);
	shard_close(&one);
	shard_close(&two);
}

static void a_udp_shard_is_ready_when_it_is_bound(void **state)
{
	struct wire_reserve w = handing_over(address(IPPROTO_UDP, "127.0.0.1"));
	struct shard_conn one = shard_of(&w), two = shard_of(&w);

	(void)state;
	assert_int_equal(newest(), 1);
	shard_crash(&two);
	await(newest() == 0);
	shard_close(&one);
}

static void the_mode_of_the_first_shard_counts(void **state)
{
	struct wire_reserve w = handing_over(tcp());
	struct shard_conn one = shard_of(&w), two;

	(void)state;
	w.mode = WIRE_MODE_BALANCE;
	two = shard_of(&w);
	assert_int_equal(look().group[0].mode, WIRE_MODE_HANDOVER);
	answer_probe(&two);
	assert_int_equal(newest(), 1);
	shard_close(&one);
	shard_close(&two);
}

static void with_key_cpu_each_slot_has_the_range_of_its_number(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn one, two;
	struct view v;

	(void)state;
	w.key = WIRE_KEY_CPU;
	w.slot = 3;
	one = shard_of(&w);
	w.slot = 1;
	two = shard_of(&w);
	v = look();
	assert_int_equal(v.group[0].key, WIRE_KEY_CPU);
	assert_int_equal(v.group[0].steered, 1);
	assert_int_equal(v.slot[0].slot, 1);
	assert_int_equal(v.slot[0].buckets, 128); /* of its own, and half of what 0 and 2 would have */
	assert_int_equal(v.slot[1].buckets, 128);
	shard_close(&two);
	assert_int_equal(look().slot[0].buckets, 256);
	shard_close(&one);
}

static void with_key_random_buckets_are_dealt_as_always(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn one, two;
	struct view v;

	(void)state;
	w.key = WIRE_KEY_RANDOM;
	one = shard_of(&w);
	two = shard_of(&w);
	v = look();
	assert_int_equal(v.group[0].steered, 1);
	assert_int_equal(v.slot[0].buckets, 128);
	assert_int_equal(v.slot[1].buckets, 128);
	shard_close(&one);
	shard_close(&two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(the_first_shard_has_all_before_it_has_proven_anything),
		KEEPER_TEST(the_newest_has_all_once_it_has_answered_a_probe),
		KEEPER_TEST(newest_is_who_joined_last_whatever_its_slot),
		KEEPER_TEST(the_one_before_takes_over_when_the_newest_dies_or_leaves),
		KEEPER_TEST(while_nobody_has_proven_anything_the_oldest_has_all),
		KEEPER_TEST(who_has_not_answered_is_behind_whoever_has),
		KEEPER_TEST(a_shard_that_cannot_be_asked_is_ready_when_it_joins),
		KEEPER_TEST(a_shard_that_takes_a_probe_for_a_client_is_ready_all_the_same),
		KEEPER_TEST(a_udp_shard_is_ready_when_it_is_bound),
		KEEPER_TEST(the_mode_of_the_first_shard_counts),
		KEEPER_TEST(with_key_cpu_each_slot_has_the_range_of_its_number),
		KEEPER_TEST(with_key_random_buckets_are_dealt_as_always),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

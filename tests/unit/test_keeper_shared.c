/* The keeper in mode shared: one socket, one queue, for all shards of a group. */
#include "keeper_fixture.h"

static struct wire_reserve shared(uint8_t proto)
{
	struct wire_reserve w = wanted(address(proto, "127.0.0.1"), "a");

	w.mode = WIRE_MODE_SHARED;
	return w;
}

static int client(const struct addr *a)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;

	assert_return_code(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(a, &ss)), errno);
	return fd;
}

static void accept_one(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	r = accept(fd, NULL, NULL);
	assert_return_code(r, errno);
	close(r);
}

static void the_second_shard_gets_the_first_ones_socket(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);
	struct view v = look();
	int on = 0;
	socklen_t len = sizeof(on);

	(void)state;
	assert_int_equal(one.joined.made, 0);
	assert_int_equal(two.joined.made, 1);
	assert_int_equal(cookie_of(one.fd), cookie_of(two.fd));
	assert_return_code(getsockopt(two.fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len), errno);
	assert_int_equal(on, 1);
	assert_int_equal(v.group[0].mode, WIRE_MODE_SHARED);
	assert_int_equal(v.slots, 2);
	assert_int_equal(v.slot[0].slot, 0);
	assert_int_equal(v.slot[1].slot, 1);
	assert_int_equal(v.strangers, 0);
	shard_close(&one);
	shard_close(&two);
}

static void what_waits_stays_when_one_of_them_dies(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);
	int c = client(&w.addr);

	(void)state;
	shard_crash(&one);
	await(look().slots == 1);
	assert_int_equal(look().slot[0].slot, 1);
	accept_one(two.fd);
	close(c);
	assert_int_equal(look().group[0].lost, 0);
	shard_close(&two);
}

static void it_waits_for_the_next_shard_when_all_have_died(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP);
	struct shard_conn one, two, next;
	int c;

	(void)state;
	w.hold_ms = PATIENCE_MS;
	one = shard_of(&w);
	two = shard_of(&w);
	c = client(&w.addr);
	shard_crash(&one);
	await(look().slots == 1);
	shard_crash(&two);
	await(state_of(0) == WIRE_ORPHAN);
	next = shard_of(&w);
	assert_int_equal(next.joined.made, 1);
	accept_one(next.fd);
	close(c);
	shard_close(&next);
}

static void the_last_one_frees_the_port(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);

	(void)state;
	shard_close(&one);
	assert_int_equal(look().slots, 1);
	assert_false(port_is_free(&w.addr));
	shard_close(&two);
	assert_true(port_is_free(&w.addr));
}

static void nobody_can_end_the_socket_of_all(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);
	int c;

	(void)state;
	assert_int_equal(leave(&two.c, WIRE_SHUT_RDWR), -EPROTO);
	c = client(&w.addr);
	accept_one(one.fd);
	close(c);
	shard_crash(&two);
	shard_close(&one);
}

static void udp_shards_have_one_socket_too(void **state)
{
	struct wire_reserve w = shared(IPPROTO_UDP);
	struct shard_conn one = shard_of(&w), two = shard_of(&w);

	(void)state;
	assert_int_equal(two.joined.made, 1);
	assert_int_equal(cookie_of(one.fd), cookie_of(two.fd));
	shard_close(&one);
	assert_int_equal(look().slots, 1);
	shard_close(&two);
	assert_true(port_is_free(&w.addr));
}

/* As the preload has it where SO_REUSEPORT is refused: without it, and a socket that could not be bound. */
static int without_the_option(const struct addr *a, bool bound)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), errno);
	if (bound)
		assert_return_code(bind(fd, (struct sockaddr *)&ss, len), errno);
	return fd;
}

static void neither_the_option_nor_a_bind_of_ones_own_is_needed(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP), refused = w;
	struct keeper_client one = connect_as(WIRE_SHARD, -1), two = connect_as(WIRE_SHARD, -1), three;
	int a = without_the_option(&w.addr, true), b = without_the_option(&w.addr, false);
	struct wire_joined joined;
	struct wire_packet p;

	(void)state;
	assert_int_equal(reserve(&one, &w), 0);
	assert_int_equal(reserve(&two, &w), 0);
	assert_int_equal(join(&two, &w.addr, b, NULL), -EADDRINUSE); /* nobody has the address yet */
	assert_int_equal(join(&one, &w.addr, a, &joined), 0);
	assert_int_equal(joined.made, 0);
	assert_int_equal(join(&two, &w.addr, b, &joined), 0);
	assert_int_equal(joined.made, 1);
	assert_int_equal(cookie_of(a), cookie_of(b));

	three = connect_as(WIRE_SHARD, -1);
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_RESERVE;
	p.body.reserve = w;
	assert_int_equal(keeper_ask(sys_get(), &three, &p), 0);
	assert_int_equal(p.body.reserve.listened, 1);
	wire_close_fds(sys_get(), &p);

	refused.mode = WIRE_MODE_BALANCE;
	refused.addr.port++;
	close(three.fd);
	three = connect_as(WIRE_SHARD, -1);
	p.body.reserve = refused;
	p.head.type = WIRE_RESERVE;
	assert_int_equal(keeper_ask(sys_get(), &three, &p), 0);
	assert_int_equal(p.body.reserve.listened, 0);
	wire_close_fds(sys_get(), &p);
	close(b);
	b = without_the_option(&refused.addr, true);
	assert_int_equal(join(&three, &refused.addr, b, NULL), -EBADF);
	close(a);
	close(b);
	close(one.fd);
	close(two.fd);
	close(three.fd);
}

static void another_mode_than_the_first_ones_is_not_used(void **state)
{
	struct wire_reserve w = shared(IPPROTO_TCP), other = w;
	struct shard_conn one = shard_of(&w), two;

	(void)state;
	other.mode = WIRE_MODE_BALANCE;
	two = shard_of(&other);
	assert_int_equal(two.joined.made, 1);
	assert_int_equal(look().group[0].mode, WIRE_MODE_SHARED);
	shard_close(&one);
	shard_close(&two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(the_second_shard_gets_the_first_ones_socket),
		KEEPER_TEST(what_waits_stays_when_one_of_them_dies),
		KEEPER_TEST(it_waits_for_the_next_shard_when_all_have_died),
		KEEPER_TEST(the_last_one_frees_the_port),
		KEEPER_TEST(nobody_can_end_the_socket_of_all),
		KEEPER_TEST(udp_shards_have_one_socket_too),
		KEEPER_TEST(neither_the_option_nor_a_bind_of_ones_own_is_needed),
		KEEPER_TEST(another_mode_than_the_first_ones_is_not_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

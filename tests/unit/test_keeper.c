/* The keeper, asked over its socket: reserving, joining and leaving on purpose. */
#include "keeper_fixture.h"

#include <sys/mman.h>

static void a_shard_that_joins_is_live_and_has_all_buckets(void **state)
{
	struct shard_conn s = shard_up("a");
	struct view v = look();
	struct addr a = tcp();

	(void)state;
	assert_int_equal(v.groups, 1);
	assert_true(addr_equal(&v.group[0].addr, &a));
	assert_string_equal(v.group[0].group, "a");
	assert_int_equal(v.group[0].steered, 1);
	assert_int_equal(v.slots, 1);
	assert_int_equal(v.slot[0].slot, 0);
	assert_int_equal(v.slot[0].pid, getpid());
	assert_int_equal(v.slot[0].state, WIRE_LIVE);
	assert_int_equal(v.slot[0].generation, 1);
	assert_int_equal(v.slot[0].buckets, v.group[0].buckets);
	assert_int_equal(s.joined.slot, 0);
	assert_int_equal(s.joined.generation, 1);
	assert_int_equal(s.joined.steered, 1);
	assert_int_equal(s.joined.granted, 0);
	shard_close(&s);
}

static void buckets_are_dealt_evenly(void **state)
{
	struct shard_conn s[4];
	struct view v;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		s[i] = shard_up("a");
		assert_int_equal(s[i].joined.slot, i);
	}
	v = look();
	assert_int_equal(v.slots, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(v.slot[i].buckets, v.group[0].buckets / 4);
	for (unsigned i = 0; i < 4; i++)
		shard_close(&s[i]);
}

static void the_slot_asked_for_is_given_when_it_is_free(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn first, second, third;

	(void)state;
	w.slot = 5;
	first = shard_of(&w);
	assert_int_equal(first.joined.slot, 5);
	assert_int_equal(first.joined.wanted_taken, 0);
	second = shard_of(&w);
	assert_int_equal(second.joined.slot, 0);
	assert_int_equal(second.joined.wanted_taken, 1);
	w.slot = WIRE_SLOT_ANY;
	third = shard_of(&w);
	assert_int_equal(third.joined.slot, 1);
	assert_int_equal(third.joined.wanted_taken, 0);
	shard_close(&first);
	shard_close(&second);
	shard_close(&third);
}

static void the_keeper_listens_for_the_shard(void **state)
{
	struct shard_conn s = shard_up("a");
	int on = 0;
	socklen_t len = sizeof(on);

	(void)state;
	assert_return_code(getsockopt(s.fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len), errno);
	assert_int_equal(on, 1);
	shard_close(&s);
}

static void a_udp_socket_is_bound_by_the_keeper(void **state)
{
	struct wire_reserve w = wanted(address(IPPROTO_UDP, "127.0.0.1"), "a");
	struct shard_conn one = shard_of(&w), two = shard_of(&w);
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	(void)state;
	assert_return_code(getsockname(one.fd, (struct sockaddr *)&in, &len), errno);
	assert_int_equal(ntohs(in.sin_port), port);
	assert_int_equal(look().group[0].steered, 1);
	shard_close(&one);
	assert_false(port_is_free(&w.addr));
	shard_close(&two);
	assert_true(port_is_free(&w.addr));
}

static void a_dual_stack_group_is_steered(void **state)
{
	struct wire_reserve w = wanted(address(IPPROTO_TCP, "::"), "a");
	struct shard_conn one = shard_of(&w), two = shard_of(&w);
	struct view v = look();

	(void)state;
	assert_int_equal(v.group[0].steered, 1);
	assert_int_equal(v.slot[0].buckets, v.slot[1].buckets);
	shard_close(&one);
	shard_close(&two);
}

static void a_single_ipv6_address_is_steered(void **state)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct wire_reserve w = wanted(address(protos[i], "::1"), "a");
		struct shard_conn one = shard_of(&w), two = shard_of(&w);
		struct view v = look();

		assert_int_equal(v.group[0].steered, 1);
		assert_int_equal(v.slot[0].buckets, v.slot[1].buckets);
		shard_close(&one);
		shard_close(&two);
	}
}

static void the_last_one_that_leaves_frees_the_port_at_once(void **state)
{
	struct shard_conn one = shard_up("a"), two = shard_up("a");
	struct addr a = tcp();

	(void)state;
	shard_close(&one);
	assert_false(port_is_free(&a));
	assert_int_equal(look().slots, 1);
	shard_close(&two);
	assert_true(port_is_free(&a));
	assert_int_equal(look().groups, 0);
}

static void buckets_of_one_that_leaves_go_to_the_others(void **state)
{
	struct shard_conn s[3];
	struct view v;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		s[i] = shard_up("a");
	shard_close(&s[1]);
	v = look();
	assert_int_equal(v.slots, 2);
	assert_int_equal(v.slot[0].buckets + v.slot[1].buckets, v.group[0].buckets);
	s[1] = shard_up("a");
	assert_int_equal(s[1].joined.slot, 1);
	assert_int_equal(s[1].joined.generation, 2);
	for (unsigned i = 0; i < 3; i++)
		shard_close(&s[i]);
}

static void a_shard_may_leave_and_join_again_over_one_connection(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn s = shard_of(&w);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		close(s.fd);
		assert_int_equal(leave(&s.c, WIRE_CLOSED), 0);
		assert_true(port_is_free(&w.addr));
		assert_int_equal(reserve(&s.c, &w), 0);
		s.fd = open_socket(&w.addr, true);
		assert_int_equal(join(&s.c, &w.addr, s.fd, &s.joined), 0);
		assert_int_equal(s.joined.slot, 0);
	}
	shard_close(&s);
}

/* shutdown(2) and connect(AF_UNSPEC) end the listening but not the descriptor, which may listen
 * anew. */
static void a_socket_that_is_shut_down_leaves_and_may_listen_again(void **state)
{
	static const uint32_t actions[] = {WIRE_SHUT_RD, WIRE_SHUT_RDWR, WIRE_DISCONNECT};
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn other = shard_of(&w), s = shard_of(&w);

	(void)state;
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		assert_int_equal(leave(&s.c, actions[i]), 0);
		assert_int_equal(look().slots, 1);
		assert_int_equal(join(&s.c, &w.addr, s.fd, &s.joined), 0);
		assert_int_equal(s.joined.slot, 1);
		assert_int_equal(look().slots, 2);
	}
	shard_close(&s);
	shard_close(&other);
}

static void a_reservation_alone_keeps_others_out_until_it_ends(void **state)
{
	struct keeper_client c = connect_as(WIRE_SHARD, -1), d = connect_as(WIRE_SHARD, -1);
	struct wire_reserve mine = wanted(tcp(), "a"), yours = wanted(tcp(), "b");

	(void)state;
	assert_int_equal(reserve(&c, &mine), 0);
	assert_int_equal(reserve(&d, &yours), -EADDRINUSE);
	assert_int_equal(leave(&c, WIRE_CLOSED), 0);
	assert_int_equal(reserve(&d, &yours), 0);
	close(d.fd);
	await(look().groups == 0);
	assert_int_equal(reserve(&c, &mine), 0);
	close(c.fd);
}

static void another_groups_name_is_refused(void **state)
{
	struct shard_conn s = shard_up("a");
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	struct wire_reserve w = wanted(tcp(), "b");

	(void)state;
	assert_int_equal(reserve(&c, &w), -EADDRINUSE);
	strcpy(w.group, "");
	assert_int_equal(reserve(&c, &w), -EADDRINUSE);
	strcpy(w.group, "a");
	assert_int_equal(reserve(&c, &w), 0);
	close(c.fd);
	shard_close(&s);
}

static void overlapping_addresses_are_refused(void **state)
{
	static const struct {
		const char *held, *wanted;
		int result;
	} cases[] = {
		{"127.0.0.1", "0.0.0.0", -EADDRINUSE}, {"0.0.0.0", "127.0.0.1", -EADDRINUSE},
		{"::", "127.0.0.1", -EADDRINUSE},      {"127.0.0.1", "::", -EADDRINUSE},
		{"::", "0.0.0.0", -EADDRINUSE},	       {"::", "::1", -EADDRINUSE},
		{"127.0.0.1", "127.0.0.2", 0},	       {"127.0.0.1", "::1", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_reserve held = wanted(address(IPPROTO_TCP, cases[i].held), "a");
		struct wire_reserve w = wanted(address(IPPROTO_TCP, cases[i].wanted), "a");
		struct keeper_client c = connect_as(WIRE_SHARD, -1);
		struct shard_conn s = shard_of(&held);

		assert_int_equal(reserve(&c, &w), cases[i].result);
		close(c.fd);
		shard_close(&s);
	}
}

static void tcp_and_udp_and_other_ports_do_not_overlap(void **state)
{
	struct shard_conn s = shard_up("a");
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	struct wire_reserve w = wanted(address(IPPROTO_UDP, "127.0.0.1"), "b");

	(void)state;
	assert_int_equal(reserve(&c, &w), 0);
	close(c.fd);
	c = connect_as(WIRE_SHARD, -1);
	w = wanted(tcp(), "b");
	w.addr.port ^= 1;
	assert_int_equal(reserve(&c, &w), 0);
	close(c.fd);
	shard_close(&s);
}

/* A program that knows SO_REUSEPORT may overlap with itself, as the kernel lets it. */
static void servers_that_share_by_themselves_may_overlap(void **state)
{
	struct wire_reserve w = wanted(address(IPPROTO_TCP, "0.0.0.0"), "a");
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	struct shard_conn s;

	(void)state;
	w.own_sharing = 1;
	s = shard_of(&w);
	w = wanted(tcp(), "a");
	assert_int_equal(reserve(&c, &w), -EADDRINUSE);
	w.own_sharing = 1;
	assert_int_equal(reserve(&c, &w), 0);
	close(c.fd);
	shard_close(&s);
}

static void a_foreign_socket_on_the_address_is_in_the_way(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct addr any = address(IPPROTO_TCP, "0.0.0.0");
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	int fd = open_socket(&any, true);

	(void)state;
	assert_return_code(listen(fd, 1), errno);
	assert_int_equal(reserve(&c, &w), -EADDRINUSE);
	w.own_sharing = 1;
	assert_int_equal(reserve(&c, &w), 0);
	close(fd);
	close(c.fd);
}

static void a_stranger_gets_no_buckets_and_is_named(void **state)
{
	struct shard_conn one = shard_up("a"), two;
	struct addr a = tcp();
	int fd = open_socket(&a, true);
	struct view v;

	(void)state;
	assert_return_code(listen(fd, 1), errno);
	two = shard_up("a");
	v = look();
	assert_int_equal(v.group[0].steered, 1);
	assert_int_equal(v.slot[0].buckets + v.slot[1].buckets, v.group[0].buckets);
	assert_int_equal(v.strangers, 1);
	assert_int_equal(v.stranger[0].pid, getpid());
	assert_int_equal(v.stranger[0].index, 1);
	assert_int_equal(v.stranger[0].uid, getuid());
	close(fd);
	await(look().strangers == 0);
	shard_close(&one);
	shard_close(&two);
}

static void a_servers_own_program_is_left_alone(void **state)
{
	struct shard_conn s = shard_up("a");
	struct wire_packet p;
	struct view v;

	(void)state;
	memset(&p, 0, sizeof(p));
	assert_int_equal(ask(&s.c, WIRE_OWN_PROGRAM, &p), 0);
	v = look();
	assert_int_equal(v.group[0].steered, 0);
	assert_non_null(strstr(v.group[0].why, "program of its own"));
	shard_close(&s);
}

static void the_next_keeper_leaves_it_alone_too(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn s;

	(void)state;
	w.rejoins = w.own_program = 1;
	s = shard_of(&w);
	assert_int_equal(look().group[0].steered, 0);
	assert_non_null(strstr(look().group[0].why, "program of its own"));
	shard_close(&s);
}

static void what_a_shard_accepts_is_counted_over_its_generations(void **state)
{
	struct wire_reserve w = wanted(tcp(), "a");
	struct shard_conn other = shard_of(&w);

	(void)state;
	for (unsigned generation = 1; generation <= 3; generation++) {
		struct keeper_client c = connect_as(WIRE_SHARD, -1);
		struct wire_packet p;
		uint64_t *page;
		int fd;

		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_RESERVE;
		p.body.reserve = w;
		assert_int_equal(keeper_ask(sys_get(), &c, &p), 0);
		assert_int_equal(p.n_fds, 1);
		page = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, p.fds[0], 0);
		assert_ptr_not_equal(page, MAP_FAILED);
		assert_int_equal(ftruncate(p.fds[0], 0), -1); /* sealed */
		wire_close_fds(sys_get(), &p);
		fd = open_socket(&w.addr, true);
		assert_int_equal(join(&c, &w.addr, fd, NULL), 0);
		*page += 5 * WIRE_ONE;
		assert_int_equal(look().slot[1].accepted, 5 * generation);
		assert_int_equal(look().slot[1].generation, generation);
		close(fd);
		assert_int_equal(leave(&c, WIRE_CLOSED), 0);
		munmap(page, 8);
		close(c.fd);
	}
	shard_close(&other);
}

static void waiting_connections_are_shown(void **state)
{
	struct shard_conn s = shard_up("a");
	struct addr a = tcp();
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);
	int client[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		client[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_return_code(connect(client[i], (struct sockaddr *)&ss, len), errno);
	}
	await(look().slot[0].queue == 3);
	for (unsigned i = 0; i < 3; i++)
		close(client[i]);
	shard_close(&s);
}

static void a_keeper_that_is_idle_ends(void **state)
{
	pid_t pid = fork_keeper("sockshard-test/idle", 50);
	int status;

	(void)state;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_second_keeper_of_the_same_name_gives_way(void **state)
{
	pid_t pid = fork_keeper(keeper_at.name, 60000);
	int status;

	(void)state;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(look().groups, 0); /* the first one answers still */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(a_shard_that_joins_is_live_and_has_all_buckets),
		KEEPER_TEST(buckets_are_dealt_evenly),
		KEEPER_TEST(the_slot_asked_for_is_given_when_it_is_free),
		KEEPER_TEST(the_keeper_listens_for_the_shard),
		KEEPER_TEST(a_udp_socket_is_bound_by_the_keeper),
		KEEPER_TEST(a_dual_stack_group_is_steered),
		KEEPER_TEST(a_single_ipv6_address_is_steered),
		KEEPER_TEST(the_last_one_that_leaves_frees_the_port_at_once),
		KEEPER_TEST(buckets_of_one_that_leaves_go_to_the_others),
		KEEPER_TEST(a_shard_may_leave_and_join_again_over_one_connection),
		KEEPER_TEST(a_socket_that_is_shut_down_leaves_and_may_listen_again),
		KEEPER_TEST(a_reservation_alone_keeps_others_out_until_it_ends),
		KEEPER_TEST(another_groups_name_is_refused),
		KEEPER_TEST(overlapping_addresses_are_refused),
		KEEPER_TEST(tcp_and_udp_and_other_ports_do_not_overlap),
		KEEPER_TEST(servers_that_share_by_themselves_may_overlap),
		KEEPER_TEST(a_foreign_socket_on_the_address_is_in_the_way),
		KEEPER_TEST(a_stranger_gets_no_buckets_and_is_named),
		KEEPER_TEST(a_servers_own_program_is_left_alone),
		KEEPER_TEST(the_next_keeper_leaves_it_alone_too),
		KEEPER_TEST(what_a_shard_accepts_is_counted_over_its_generations),
		KEEPER_TEST(waiting_connections_are_shown),
		KEEPER_TEST(a_keeper_that_is_idle_ends),
		KEEPER_TEST(a_second_keeper_of_the_same_name_gives_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Nudges that are made ahead of their connections, on a keeper's state without processes. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../shim/keeper/give.h"
#include "../../shim/keeper/nudge.h"
#include "../../shim/keeper/snapshot.h"

enum { DEAD, ALIVE };

static struct shared *shared;
static struct keeper *k;
static int clients[8];
static unsigned n_clients;

static int listen_on(const struct sockaddr_in *in)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), errno);
	assert_return_code(bind(fd, (const struct sockaddr *)in, sizeof(*in)), errno);
	assert_return_code(listen(fd, 8), errno);
	return fd;
}

static void add_member(int i, enum wire_state state, const struct sockaddr_in *in)
{
	struct member *m = &k->members[i];

	m->used = true;
	m->slot = (uint32_t)i;
	m->state = state;
	m->watch_at = NEVER;
	m->fd = listen_on(in);
	m->cookie = snapshot_identity(m->fd);
	assert_int_equal(page_make(&m->page), 0);
	k->groups[0].map.e[i] = (struct index_entry){.cookie = m->cookie, .certain = true};
	k->groups[0].map.n = (uint16_t)(i + 1);
	k->member_top = i + 1;
}

/* A group of an orphan and a live shard; the orphan's socket is the only one while clients connect. */
static int up(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof(in);

	(void)state;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	shared = snapshot_make();
	assert_non_null(shared);
	k = snapshot_new(shared);
	assert_non_null(k);
	k->sys = sys_get();
	k->os = os_get();
	k->epoll = k->diag = NONE;
	k->group_top = 1;
	k->groups[0].used = k->groups[0].steered = true;
	memset(k->groups[0].ghost_index, 0xff, sizeof(k->groups[0].ghost_index));
	add_member(DEAD, WIRE_ORPHAN, &in);
	assert_return_code(getsockname(k->members[DEAD].fd, (struct sockaddr *)&in, &len), errno);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in, len, &k->groups[0].addr), 0);
	k->groups[0].addr.proto = IPPROTO_TCP;
	n_clients = 0;
	return 0;
}

static void add_live(void)
{
	struct sockaddr_storage ss;

	(void)addr_to_sockaddr(&k->groups[0].addr, &ss);
	add_member(ALIVE, WIRE_LIVE, (const struct sockaddr_in *)(const void *)&ss);
}

static int down(void **state)
{
	(void)state;
	state_commit(k);
	state_commit(k);
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used)
			close(k->nudges[i].fd);
	for (int i = 0; i < k->member_top; i++) {
		close(k->members[i].fd);
		page_drop(&k->members[i].page);
	}
	while (n_clients > 0)
		close(clients[--n_clients]);
	snapshot_drop(k);
	return 0;
}

static void connect_client(void)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&k->groups[0].addr, &ss);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	assert_return_code(connect(fd, (struct sockaddr *)&ss, len), errno);
	clients[n_clients++] = fd;
}

static bool is_nudged(int member)
{
	return atomic_load(&k->members[member].page.at->word) & WIRE_NUDGED;
}

static void as_many_are_made_ahead_as_connections_wait(void **state)
{
	(void)state;
	connect_client();
	add_live();
	give_ahead(k, DEAD);
	assert_int_equal(nudge_unsent(k, 0), 1);
	assert_int_equal(k->nudges[0].member, ALIVE);
	assert_true(is_nudged(ALIVE));
}

static void none_is_made_ahead_for_an_empty_queue(void **state)
{
	(void)state;
	add_live();
	give_ahead(k, DEAD);
	assert_int_equal(nudge_unsent(k, 0), 0);
	assert_false(is_nudged(ALIVE));
}

static void no_shard_has_more_made_ahead_than_it_may_have_before_it(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		connect_client();
	add_live();
	give_ahead(k, DEAD);
	assert_int_equal(nudge_unsent(k, 0), 2);
}

static void none_is_made_ahead_of_a_group_that_is_not_steered(void **state)
{
	(void)state;
	connect_client();
	add_live();
	k->groups[0].steered = false;
	give_ahead(k, DEAD);
	assert_int_equal(nudge_unsent(k, 0), 0);
}

static void only_those_with_a_rule_are_sent_without_another_program(void **state)
{
	struct program_rule rules[NUDGES_MAX];
	int with, without;

	(void)state;
	add_live();
	with = nudge_prepare(k, ALIVE, false);
	assert_true(with >= 0);
	assert_int_equal(nudge_rules(k, 0, rules, NUDGES_MAX), 1);
	assert_int_equal(rules[0].src_port, k->nudges[with].peer.port);
	assert_int_equal(rules[0].index, ALIVE);
	without = nudge_prepare(k, ALIVE, false);
	assert_true(without >= 0);
	nudge_send_ruled(k, 0);
	assert_false(k->nudges[with].unsent);
	assert_true(k->nudges[without].unsent);
}

/* The kernel takes it to either of the two. */
static int accept_one(void)
{
	struct pollfd p[] = {{.fd = k->members[DEAD].fd, .events = POLLIN},
			     {.fd = k->members[ALIVE].fd, .events = POLLIN}};

	assert_int_equal(poll(p, 2, 10000), 1);
	return accept(p[0].revents ? p[0].fd : p[1].fd, NULL, NULL);
}

static void whoever_takes_one_for_a_client_does_not_wait_for_it(void **state)
{
	struct program_rule rules[NUDGES_MAX];
	struct timeval patience = {.tv_sec = 10};
	int sent, fd;
	char byte;

	(void)state;
	add_live();
	sent = nudge_prepare(k, ALIVE, false);
	(void)nudge_rules(k, 0, rules, NUDGES_MAX);
	nudge_send_ruled(k, 0);
	fd = accept_one();
	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), errno);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	assert_int_equal(nudge_find(k, 0, &k->nudges[sent].peer, &k->nudges[sent].local), sent);
	close(fd);
}

static void a_call_that_one_process_took_down_is_made_again_for_the_others(void **state)
{
	int nudge;

	(void)state;
	add_live();
	nudge_call_again(k, ALIVE);
	assert_false(is_nudged(ALIVE));
	nudge = nudge_prepare(k, ALIVE, false);
	atomic_fetch_and(&k->members[ALIVE].page.at->word, ~(uint64_t)WIRE_NUDGED);
	nudge_call_again(k, ALIVE);
	assert_true(is_nudged(ALIVE));
	nudge_end(k, nudge);
	assert_false(is_nudged(ALIVE));
}

static void what_was_sent_is_never_withdrawn(void **state)
{
	struct program_rule rules[NUDGES_MAX];
	int sent, surplus;

	(void)state;
	add_live();
	sent = nudge_prepare(k, ALIVE, false);
	(void)nudge_rules(k, 0, rules, NUDGES_MAX);
	nudge_send_ruled(k, 0);
	surplus = nudge_prepare(k, ALIVE, false);
	nudge_withdraw(k, 0, 1);
	assert_true(k->nudges[sent].used);
	assert_false(k->nudges[surplus].used);
	surplus = nudge_prepare(k, ALIVE, false);
	nudge_withdraw(k, 0, 2);
	assert_true(k->nudges[surplus].used);
	nudge_withdraw(k, 0, 0);
	assert_true(k->nudges[sent].used);
	assert_false(k->nudges[surplus].used);
	assert_true(is_nudged(ALIVE)); /* it will ask about the one that was sent */
}

static void with_its_shard_ends_what_was_not_sent(void **state)
{
	struct program_rule rules[NUDGES_MAX];
	int sent, unsent;

	(void)state;
	add_live();
	sent = nudge_prepare(k, ALIVE, false);
	(void)nudge_rules(k, 0, rules, NUDGES_MAX);
	nudge_send_ruled(k, 0);
	unsent = nudge_prepare(k, ALIVE, false);
	nudge_member_died(k, ALIVE);
	assert_true(k->nudges[sent].used && k->nudges[sent].gave_up);
	assert_false(k->nudges[unsent].used);
}

static void the_next_worker_ends_what_was_not_sent(void **state)
{
	int fd, unsent;

	(void)state;
	add_live();
	unsent = nudge_prepare(k, ALIVE, false);
	fd = k->nudges[unsent].fd;
	state_commit(k);
	nudge_restore(k);
	assert_false(k->nudges[unsent].used);
	state_commit(k);
	state_commit(k);
	assert_int_equal(snapshot_identity(fd), 0);
	assert_false(is_nudged(ALIVE));
}

static int64_t wait_until(int64_t now)
{
	k->now = now;
	nudge_on_time(k);
	return nudge_next_ms(k);
}

/* Of a thread that did not ask: as long as it is open, a blocking server waits for what it may say. */
static void one_that_was_accepted_and_not_asked_about_is_closed_and_makes_room(void **state)
{
	struct program_rule rules[NUDGES_MAX];
	int64_t next = 1;
	int sent, taken;
	char byte;

	(void)state;
	k->members[DEAD].state = WIRE_LIVE; /* its socket is the only one */
	k->now = 1;
	sent = nudge_prepare(k, DEAD, false);
	(void)nudge_rules(k, 0, rules, NUDGES_MAX);
	nudge_send_ruled(k, 0);
	while (!k->nudges[sent].gave_up)
		next = wait_until(next);
	for (int i = 0; i < 5; i++)
		next = wait_until(next);
	assert_true(k->nudges[sent].used); /* it is in the queue */
	assert_int_equal(nudge_outstanding(k, DEAD), 1);
	taken = accept(k->members[DEAD].fd, NULL, NULL);
	assert_return_code(taken, errno);
	assert_true(next < NEVER);
	(void)wait_until(next);
	assert_int_equal(nudge_outstanding(k, DEAD), 0);
	assert_false(is_nudged(DEAD));
	state_commit(k);
	state_commit(k);
	assert_int_equal(read(taken, &byte, 1), 0);
	close(taken);
}

static void one_in_the_queue_of_a_dead_shard_is_taken_out_with_it(void **state)
{
	struct program_rule rules[NUDGES_MAX];
	int sent;

	(void)state;
	k->now = 1;
	sent = nudge_prepare(k, DEAD, false);
	(void)nudge_rules(k, 0, rules, NUDGES_MAX);
	nudge_send_ruled(k, 0);
	nudge_member_died(k, DEAD);
	assert_true(wait_until(1000000) == NEVER);
	assert_true(k->nudges[sent].used);
	assert_int_equal(give_reserve(k, DEAD), 0);
	assert_false(k->nudges[sent].used);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)
	const struct CMUnitTest tests[] = {
		TEST(as_many_are_made_ahead_as_connections_wait),
		TEST(none_is_made_ahead_for_an_empty_queue),
		TEST(no_shard_has_more_made_ahead_than_it_may_have_before_it),
		TEST(none_is_made_ahead_of_a_group_that_is_not_steered),
		TEST(only_those_with_a_rule_are_sent_without_another_program),
		TEST(whoever_takes_one_for_a_client_does_not_wait_for_it),
		TEST(a_call_that_one_process_took_down_is_made_again_for_the_others),
		TEST(what_was_sent_is_never_withdrawn),
		TEST(with_its_shard_ends_what_was_not_sent),
		TEST(the_next_worker_ends_what_was_not_sent),
		TEST(one_that_was_accepted_and_not_asked_about_is_closed_and_makes_room),
		TEST(one_in_the_queue_of_a_dead_shard_is_taken_out_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

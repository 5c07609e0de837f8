/* What a worker leaves to the next one: commit and load, without processes. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/keeper/snapshot.h"

static struct shared *shared;
static struct keeper *k;

static int up(void **state)
{
	(void)state;
	shared = snapshot_make();
	assert_non_null(shared);
	k = snapshot_new(shared);
	assert_non_null(k);
	k->sys = sys_get();
	return 0;
}

static struct keeper *next_worker(void)
{
	snapshot_drop(k);
	k = snapshot_load(shared);
	assert_non_null(k);
	return k;
}

static void change(uint64_t value)
{
	k->group_top = k->member_top = k->conn_top = k->gift_top = k->nudge_top = 2;
	for (int i = 0; i < 2; i++) {
		struct group *g = &k->groups[i];

		g->used = k->members[i].used = k->conn[i].used = true;
		k->gifts[i].used = k->nudges[i].used = true;
		g->lost = value;
		g->table.n = 256;
		g->table.owner[255] = g->table.home[255] = (uint16_t)value;
		g->map.n = 3;
		g->map.e[2].cookie = value;
		g->slots[5].given = value;
		k->members[i].group = i;
		k->members[i].slot = 5;
		k->members[i].accepted = value;
		k->conn[i].n = 1;
		k->conn[i].given_up[3] = (uint8_t)value;
		k->gifts[i].cookie = k->nudges[i].cookie = value;
	}
	k->last_gift = (uint32_t)value;
	k->outbox.seq = (uint32_t)value;
}

static void assert_state(uint64_t value)
{
	for (int i = 0; i < 2; i++) {
		const struct group *g = &k->groups[i];

		assert_int_equal(g->lost, value);
		assert_int_equal(g->table.n, 256);
		assert_int_equal(g->table.owner[255], value);
		assert_int_equal(g->table.home[255], value);
		assert_int_equal(g->map.n, 3);
		assert_int_equal(g->map.e[2].cookie, value);
		assert_int_equal(g->slots[5].given, value);
		assert_int_equal(k->members[i].accepted, value);
		assert_int_equal(k->conn[i].given_up[3], value);
		assert_int_equal(k->gifts[i].cookie, value);
		assert_int_equal(k->nudges[i].cookie, value);
	}
	assert_int_equal(k->last_gift, value);
	assert_int_equal(k->outbox.seq, value);
}

static void the_next_worker_has_what_was_committed_last(void **state)
{
	(void)state;
	for (uint64_t value = 1; value < 5; value++) {
		change(value);
		state_commit(k);
		change(99); /* not committed */
		next_worker();
		assert_state(value);
	}
}

static void what_was_forgotten_stays_forgotten(void **state)
{
	(void)state;
	change(1);
	state_commit(k);
	state_commit(k);
	k->groups[1].used = k->members[1].used = k->conn[1].used = false;
	k->gifts[1].used = k->nudges[1].used = false;
	state_commit(k);
	next_worker();
	assert_false(k->groups[1].used || k->members[1].used || k->conn[1].used);
	assert_false(k->gifts[1].used || k->nudges[1].used);
	assert_true(k->groups[0].used && k->members[0].used && k->conn[0].used);
}

static void a_commit_that_was_torn_does_no_harm(void **state)
{
	(void)state;
	change(1);
	state_commit(k);
	/* a worker that died while it wrote into the copy that is not the whole one */
	memset(shared->state[!shared->active].members, 0x55, sizeof(k->members) / 2);
	memset(&shared->state[!shared->active].groups[1], 0x55, sizeof(k->groups[1]));
	memset(shared->state[!shared->active].conn, 0x55, 2 * sizeof(k->conn[0]));
	next_worker();
	assert_state(1);
	change(2);
	state_commit(k);
	next_worker();
	assert_state(2);
}

static void a_descriptor_is_closed_only_when_that_is_committed(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	state_close(k, fd, snapshot_identity(fd));
	assert_true(fcntl(fd, F_GETFD) >= 0);
	state_commit(k);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	next_worker();
	assert_int_equal(k->n_closing, 1); /* the next one looks whether it was done */
}

static void one_to_be_closed_late_is_closed_with_the_commit_after_that(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), now = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0 && now >= 0);
	state_close_late(k, fd, snapshot_identity(fd));
	state_close(k, now, snapshot_identity(now));
	state_commit(k);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	assert_int_equal(fcntl(now, F_GETFD), -1);
	state_commit(k);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void the_next_worker_closes_what_was_to_be_closed_late(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	state_close_late(k, fd, snapshot_identity(fd));
	state_commit(k);
	next_worker();
	assert_int_equal(k->n_closing, 1); /* restore() closes what is there */
	assert_int_equal(k->closing[0].fd, fd);
	assert_int_equal(k->closing[0].identity, snapshot_identity(fd));
	close(fd);
}

static void a_number_used_again_has_another_identity(void **state)
{
	int fds[2], again[2];
	uint64_t before;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	before = snapshot_identity(fds[0]);
	assert_int_not_equal(before, 0);
	assert_int_equal(snapshot_identity(fds[0]), before);
	close(fds[0]);
	assert_int_equal(snapshot_identity(fds[0]), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, again), 0);
	assert_int_equal(again[0], fds[0]);
	assert_int_not_equal(snapshot_identity(again[0]), before);
	close(fds[1]);
	close(again[0]);
	close(again[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, up)
	const struct CMUnitTest tests[] = {
		TEST(the_next_worker_has_what_was_committed_last),
		TEST(what_was_forgotten_stays_forgotten),
		TEST(a_commit_that_was_torn_does_no_harm),
		TEST(a_descriptor_is_closed_only_when_that_is_committed),
		TEST(one_to_be_closed_late_is_closed_with_the_commit_after_that),
		TEST(the_next_worker_closes_what_was_to_be_closed_late),
		TEST(a_number_used_again_has_another_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The keeper and launchers: numbers of slots, events, supervised slots, stopping. */
#include "keeper_fixture.h"

#include "../../shim/keeper/process.h"

static int register_slots(struct keeper_client *c, const char *group, uint32_t n,
			  uint32_t *ret_first)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	strcpy(p.body.reg.group, group);
	p.body.reg.n = n;
	r = ask(c, WIRE_REGISTER, &p);
	*ret_first = p.body.reg.first;
	return r;
}

static struct keeper_client launcher_up(const char *group, uint32_t n)
{
	struct keeper_client c = connect_as(WIRE_LAUNCHER, -1);
	uint32_t first;

	assert_int_equal(register_slots(&c, group, n, &first), 0);
	return c;
}

static int tell(struct keeper_client *c, uint16_t type, uint32_t slot)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.body.slot.slot = slot;
	return ask(c, type, &p);
}

/* The next event a launcher hears. */
static struct wire_packet next_event(struct keeper_client *c)
{
	struct wire_packet p;

	assert_int_equal(wire_receive(sys_get(), c->fd, 0, &p), 1);
	assert_int_equal(p.head.seq, 0);
	return p;
}

static bool hears_nothing(struct keeper_client *c)
{
	struct wire_packet p;

	(void)look(); /* whatever was to be told is told by now */
	return wire_receive(sys_get(), c->fd, MSG_DONTWAIT, &p) == -EAGAIN;
}

static struct shard_conn shard_in_slot(uint32_t slot, uint32_t hold_ms)
{
	struct wire_reserve w = wanted(tcp(), "a");

	w.slot = slot;
	w.hold_ms = hold_ms;
	return shard_of(&w);
}

static void launchers_of_a_group_get_numbers_of_their_own(void **state)
{
	struct keeper_client c[4];
	uint32_t first;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		c[i] = connect_as(WIRE_LAUNCHER, -1);
	assert_int_equal(register_slots(&c[0], "a", 4, &first), 0);
	assert_int_equal(first, 0);
	assert_int_equal(register_slots(&c[1], "a", 2, &first), 0);
	assert_int_equal(first, 4);
	assert_int_equal(register_slots(&c[2], "b", 2, &first), 0);
	assert_int_equal(first, 0);
	close(c[0].fd);
	(void)look();
	assert_int_equal(register_slots(&c[3], "a", 3, &first), 0);
	assert_int_equal(first, 0);
	for (unsigned i = 1; i < 4; i++)
		close(c[i].fd);
}

static void a_launcher_that_comes_later_hears_how_much_is_held(void **state)
{
	struct shard_conn a = shard_in_slot(0, 0), b = shard_in_slot(2, 0), other = shard_in_slot(3, 0);
	struct keeper_client c = connect_as(WIRE_LAUNCHER, -1);
	struct wire_packet p;

	(void)state;
	memset(&p, 0, sizeof(p));
	strcpy(p.body.reg.group, "a");
	p.body.reg.n = 3;
	assert_int_equal(ask(&c, WIRE_REGISTER, &p), 0);
	assert_int_equal(p.body.reg.held, 2);
	assert_true(hears_nothing(&c));
	shard_close(&a);
	shard_close(&b);
	shard_close(&other);
	close(c.fd);
}

static void launchers_are_listed_with_their_slots_until_they_end(void **state)
{
	struct keeper_client a = launcher_up("a", 3), second = launcher_up("a", 2), none;
	struct view v;

	(void)state;
	none = connect_as(WIRE_LAUNCHER, -1); /* has registered nothing */
	v = look();
	assert_int_equal(v.launchers, 2);
	for (unsigned i = 0; i < 2; i++) {
		bool is_a = v.launcher[i].first == 0;

		assert_string_equal(v.launcher[i].group, "a");
		assert_int_equal(v.launcher[i].pid, getpid());
		assert_int_equal(v.launcher[i].pid_space, process_pid_space());
		assert_int_not_equal(v.launcher[i].pid_space, 0);
		assert_int_equal(v.launcher[i].first, is_a ? 0 : 3);
		assert_int_equal(v.launcher[i].n, is_a ? 3 : 2);
		assert_int_equal(v.launcher[i].stopping, 0);
	}
	close(second.fd);
	assert_int_equal(tell(&a, WIRE_STOPPING, 0), 0);
	await(look().launchers == 1);
	v = look();
	assert_int_equal(v.launcher[0].first, 0);
	assert_int_equal(v.launcher[0].stopping, 1);
	close(a.fd);
	close(none.fd);
	await(look().launchers == 0);
}

static void a_gap_that_is_too_small_is_not_used(void **state)
{
	struct keeper_client c[4];
	uint32_t first;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		c[i] = connect_as(WIRE_LAUNCHER, -1);
	assert_int_equal(register_slots(&c[0], "a", 2, &first), 0);
	assert_int_equal(register_slots(&c[1], "a", 2, &first), 0);
	close(c[0].fd);
	(void)look();
	assert_int_equal(register_slots(&c[2], "a", 3, &first), 0);
	assert_int_equal(first, 4);
	assert_int_equal(register_slots(&c[3], "a", 2, &first), 0);
	assert_int_equal(first, 0);
	for (unsigned i = 1; i < 4; i++)
		close(c[i].fd);
}

static void more_slots_than_there_are_is_refused(void **state)
{
	struct keeper_client c = connect_as(WIRE_LAUNCHER, -1), d = connect_as(WIRE_LAUNCHER, -1);
	uint32_t first;

	(void)state;
	assert_int_equal(register_slots(&c, "a", 1000, &first), 0);
	assert_int_equal(register_slots(&d, "a", 25, &first), -ENOSPC);
	assert_int_equal(register_slots(&d, "a", 24, &first), 0);
	assert_int_equal(first, 1000);
	close(c.fd);
	close(d.fd);
}

static void bad_registrations_end_the_connection(void **state)
{
	static const uint32_t bad[] = {0, 1025, UINT32_MAX};
	struct keeper_client c;
	uint32_t first;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		c = connect_as(WIRE_LAUNCHER, -1);
		assert_int_equal(register_slots(&c, "a", bad[i], &first), -ECONNRESET);
		close(c.fd);
	}
	c = launcher_up("a", 2);
	assert_int_equal(register_slots(&c, "a", 2, &first), -ECONNRESET);
	close(c.fd);
	c = launcher_up("a", 2);
	assert_int_equal(tell(&c, WIRE_GIVE_UP, 2), -ECONNRESET);
	close(c.fd);
}

static void a_launcher_hears_of_its_own_slots_only(void **state)
{
	struct keeper_client mine = launcher_up("a", 1), next = launcher_up("a", 1);
	struct keeper_client other = launcher_up("b", 2);
	struct shard_conn one = shard_in_slot(1, 50);
	struct wire_packet p = next_event(&next);
	struct addr a = tcp();

	(void)state;
	assert_int_equal(p.head.type, WIRE_EVENT_LIVE);
	assert_int_equal(p.body.slot.slot, 1);
	assert_int_equal(p.body.slot.pid, getpid());
	assert_true(addr_equal(&p.body.slot.addr, &a));
	assert_true(hears_nothing(&mine));
	assert_true(hears_nothing(&other));
	shard_close(&one);
	p = next_event(&next);
	assert_int_equal(p.head.type, WIRE_EVENT_GONE);
	assert_int_equal(p.body.slot.slot, 1);
	assert_true(hears_nothing(&mine));
	close(mine.fd);
	close(next.fd);
	close(other.fd);
}

static void supervised_slots_are_shown_and_not_given_to_others(void **state)
{
	struct keeper_client c = launcher_up("a", 2);
	struct shard_conn one = shard_in_slot(WIRE_SLOT_ANY, 50), zero;
	struct view v;

	(void)state;
	assert_int_equal(one.joined.slot, 2); /* 0 and 1 are the launcher's */
	zero = shard_in_slot(0, 50);
	assert_int_equal(zero.joined.slot, 0);
	v = look();
	assert_int_equal(v.slot[0].supervised, 1);
	assert_int_equal(v.slot[1].supervised, 0);
	close(c.fd);
	await(look().slot[0].supervised == 0);
	shard_close(&zero);
	shard_close(&one);
}

/* hold= under a launcher: until it gives up restarting. */
static void a_supervised_orphan_is_held_until_its_launcher_gives_up(void **state)
{
	struct keeper_client c = launcher_up("a", 2);
	struct shard_conn zero = shard_in_slot(0, 20), one = shard_in_slot(1, 20);
	int64_t start;

	(void)state;
	shard_crash(&zero);
	await(state_of(0) == WIRE_ORPHAN);
	start = now_ms();
	while (now_ms() - start < 200) {
		assert_int_equal(state_of(0), WIRE_ORPHAN);
		short_pause();
	}
	assert_int_equal(tell(&c, WIRE_GIVE_UP, 0), 0);
	await(look().slots == 1);
	shard_close(&one);
	close(c.fd);
}

static void an_orphan_ends_after_its_launcher(void **state)
{
	struct keeper_client c = launcher_up("a", 1);
	struct shard_conn zero = shard_in_slot(0, 20);
	struct addr a = tcp();

	(void)state;
	shard_crash(&zero);
	await(state_of(0) == WIRE_ORPHAN);
	close(c.fd);
	await(look().groups == 0);
	assert_true(port_is_free(&a));
}

static void what_ends_while_stopping_ends_on_purpose(void **state)
{
	struct keeper_client c = launcher_up("a", 2);
	struct shard_conn zero = shard_in_slot(0, 60000), one = shard_in_slot(1, 60000);
	struct addr a = tcp();

	(void)state;
	assert_int_equal(tell(&c, WIRE_STOPPING, 0), 0);
	shard_crash(&zero);
	await(look().slots == 1);
	shard_crash(&one);
	await(look().groups == 0);
	assert_true(port_is_free(&a));
	close(c.fd);
}

static void orphans_end_when_the_stop_begins(void **state)
{
	struct keeper_client c = launcher_up("a", 2);
	struct shard_conn zero = shard_in_slot(0, 60000);
	struct addr a = tcp();

	(void)state;
	shard_crash(&zero);
	await(state_of(0) == WIRE_ORPHAN);
	assert_int_equal(tell(&c, WIRE_STOPPING, 0), 0);
	await(look().groups == 0);
	assert_true(port_is_free(&a));
	close(c.fd);
}

static void the_last_one_of_a_supervised_group_may_come_back(void **state)
{
	struct keeper_client c = launcher_up("a", 1);
	struct shard_conn zero = shard_in_slot(0, 60000), again;
	struct addr a = tcp();

	(void)state;
	shard_crash(&zero);
	await(state_of(0) == WIRE_ORPHAN);
	assert_false(port_is_free(&a));
	again = shard_in_slot(0, 60000);
	assert_int_equal(again.joined.generation, 2);
	assert_int_equal(look().slots, 1);
	shard_close(&again);
	close(c.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(launchers_of_a_group_get_numbers_of_their_own),
		KEEPER_TEST(a_launcher_that_comes_later_hears_how_much_is_held),
		KEEPER_TEST(launchers_are_listed_with_their_slots_until_they_end),
		KEEPER_TEST(a_gap_that_is_too_small_is_not_used),
		KEEPER_TEST(more_slots_than_there_are_is_refused),
		KEEPER_TEST(bad_registrations_end_the_connection),
		KEEPER_TEST(a_launcher_hears_of_its_own_slots_only),
		KEEPER_TEST(supervised_slots_are_shown_and_not_given_to_others),
		KEEPER_TEST(a_supervised_orphan_is_held_until_its_launcher_gives_up),
		KEEPER_TEST(an_orphan_ends_after_its_launcher),
		KEEPER_TEST(what_ends_while_stopping_ends_on_purpose),
		KEEPER_TEST(orphans_end_when_the_stop_begins),
		KEEPER_TEST(the_last_one_of_a_supervised_group_may_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The keeper and processes that share a listening socket: who accepts from it, who gets another one
 * made like it, who only holds it. */
#include "claim_fixture.h"

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

/* As the preload does when it finds 0: without a word. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(the_first_claimant_keeps_the_socket_and_the_second_gets_another),
		KEEPER_TEST(what_a_made_socket_gets_can_be_accepted_from_it),
		KEEPER_TEST(while_the_opener_only_waits_for_events_the_others_share),
		KEEPER_TEST(beside_an_opener_that_accepts_a_worker_gets_its_own),
		KEEPER_TEST(an_opener_that_comes_late_claims_on_its_own_connection),
		KEEPER_TEST(an_opener_that_begins_to_accept_is_noticed),
		KEEPER_TEST(a_claim_that_is_repeated_makes_no_second_socket),
		KEEPER_TEST(who_only_holds_a_socket_gets_token_and_page_and_keeps_it),
		KEEPER_TEST(workers_of_a_made_socket_can_claim_that),
		KEEPER_TEST(a_claimant_that_lost_connection_and_socket_leaves_it_to_who_holds_it),
		KEEPER_TEST(a_worker_has_the_process_that_opened_the_socket_as_its_parent),
		KEEPER_TEST(a_claimant_that_comes_back_after_losing_its_connection_is_it_still),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* keeper/indexmap.c against a model of the kernel's array (net/core/sock_reuseport.c). */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/keeper/indexmap.h"

static struct index_map map;

/* The kernel: append on join, the last one into the hole on leave. */
struct array {
	unsigned n;
	uint64_t cookie[INDEX_MAX + 8];
};

static void join(struct array *a, uint64_t cookie)
{
	a->cookie[a->n++] = cookie;
}

static void leave_at(struct array *a, unsigned i)
{
	a->cookie[i] = a->cookie[--a->n];
}

/* A listing has its own order: not the array's. */
static void update(const struct array *a)
{
	static uint64_t listed[INDEX_MAX + 8];

	for (unsigned i = 0; i < a->n; i++)
		listed[i] = a->cookie[i];
	for (unsigned i = a->n; i > 1; i--) {
		unsigned j = (unsigned)rand() % i;
		uint64_t keep = listed[i - 1];

		listed[i - 1] = listed[j];
		listed[j] = keep;
	}
	index_update(&map, listed, a->n);
}

static void assert_exact(const struct array *a)
{
	assert_int_equal(map.n, a->n);
	for (unsigned i = 0; i < a->n; i++)
		assert_int_equal(index_find(&map, a->cookie[i]), i);
}

static int fresh_map(void **state)
{
	(void)state;
	memset(&map, 0, sizeof(map));
	srand(1);
	return 0;
}

static struct array array_of(unsigned n)
{
	struct array a = {0};

	for (unsigned i = 0; i < n; i++) {
		join(&a, 100 + i);
		update(&a);
	}
	return a;
}

static void a_joining_socket_is_the_last(void **state)
{
	struct array a = array_of(5);

	(void)state;
	assert_exact(&a);
	assert_int_equal(index_find(&map, 99), -ENOENT);
}

static void the_last_socket_moves_into_the_hole(void **state)
{
	struct array a = array_of(5);

	(void)state;
	leave_at(&a, 1);
	update(&a);
	assert_int_equal(index_find(&map, 104), 1);
	assert_int_equal(index_find(&map, 101), -ENOENT);
	assert_exact(&a);
}

static void the_end_of_the_last_socket_moves_nothing(void **state)
{
	struct array a = array_of(5);

	(void)state;
	leave_at(&a, 4);
	leave_at(&a, 3);
	update(&a);
	assert_int_equal(map.n, 3);
	assert_exact(&a);
}

static void several_new_sockets_are_known_only_together(void **state)
{
	struct array a = array_of(2);

	(void)state;
	join(&a, 200);
	join(&a, 201);
	update(&a);
	assert_int_equal(index_find(&map, 100), 0);
	assert_int_equal(index_find(&map, 101), 1);
	assert_int_equal(index_find(&map, 200), -EAGAIN);
	assert_int_equal(index_find(&map, 201), -EAGAIN);
	join(&a, 300);
	update(&a);
	assert_int_equal(index_find(&map, 300), 4);
}

static void the_only_uncertain_socket_left_has_the_only_place_left(void **state)
{
	struct array a = array_of(2);

	(void)state;
	join(&a, 200);
	join(&a, 201);
	update(&a);
	leave_at(&a, 2); /* whichever it was, the other one has index 2 now */
	update(&a);
	assert_exact(&a);
}

static void an_order_that_cannot_be_proven_is_not_guessed(void **state)
{
	struct array a = array_of(6);

	(void)state;
	leave_at(&a, 0);
	leave_at(&a, 1);
	update(&a);
	for (unsigned i = 0; i < a.n; i++)
		assert_int_equal(index_find(&map, a.cookie[i]), -EAGAIN);
}

static void one_that_leaves_while_another_joins_is_not_guessed(void **state)
{
	struct array a = array_of(3);

	(void)state;
	join(&a, 200);
	leave_at(&a, 0);
	update(&a);
	assert_int_equal(index_find(&map, 200), -EAGAIN);
	assert_int_equal(index_find(&map, 101), -EAGAIN);
}

static void a_lost_order_comes_back_with_an_empty_group(void **state)
{
	struct array a = array_of(6);

	(void)state;
	leave_at(&a, 0);
	leave_at(&a, 1);
	update(&a);
	assert_true(map.lost);
	a.n = 0;
	update(&a);
	assert_false(map.lost);
	join(&a, 7);
	update(&a);
	assert_exact(&a);
}

static void a_lost_order_comes_back_with_a_single_socket(void **state)
{
	struct array a = array_of(6);

	(void)state;
	leave_at(&a, 0);
	leave_at(&a, 1);
	update(&a);
	a.cookie[0] = a.cookie[2];
	a.n = 1;
	update(&a);
	assert_exact(&a);
}

static void more_sockets_than_places_are_never_written(void **state)
{
	struct array a = array_of(0);

	(void)state;
	for (unsigned i = 0; i < INDEX_MAX + 2; i++)
		join(&a, 1 + i);
	update(&a);
	assert_int_equal(map.n, INDEX_MAX);
	assert_true(map.lost);
	assert_true(index_find(&map, 1) < 0);
}

static void single_changes_are_followed_exactly(void **state)
{
	struct array a = array_of(0);
	uint64_t next = 1;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		if (a.n == 0 || (a.n < 70 && rand() % 2))
			join(&a, next++);
		else
			leave_at(&a, (unsigned)rand() % a.n);
		update(&a);
		assert_exact(&a);
	}
}

/* Between two listings anything may happen: what the map is sure of must be so. */
static void what_is_certain_is_true(void **state)
{
	unsigned certain = 0;

	(void)state;
	for (unsigned run = 0; run < 30000; run++) {
		struct array a = {0};
		uint64_t next = 1;

		memset(&map, 0, offsetof(struct index_map, e));
		for (unsigned round = 0; round < 8; round++) {
			for (int changes = rand() % 4; changes > 0; changes--)
				if (a.n == 0 || (a.n < 7 && rand() % 3))
					join(&a, next++);
				else
					leave_at(&a, (unsigned)rand() % a.n);
			update(&a);
			assert_int_equal(map.n, a.n);
			if (rand() % 2)
				index_doubt(&map);
			for (int proofs = rand() % 3; a.n > 0 && proofs > 0; proofs--) {
				unsigned i = (unsigned)rand() % a.n;

				(void)index_prove(&map, i, a.cookie[i]);
			}
			for (unsigned i = 0; i < a.n; i++) {
				int index = index_find(&map, a.cookie[i]);

				if (index == -EAGAIN)
					continue;
				if (index != (int)i)
					fail_msg("run %u round %u: index %u is said to be %d", run,
						 round, i, index);
				certain++;
			}
		}
	}
	assert_true(certain > 100000);
}

static void a_lost_order_can_be_proven_one_by_one(void **state)
{
	struct array a = array_of(5);

	(void)state;
	update(&a);
	leave_at(&a, 0);
	join(&a, 200);
	update(&a);
	assert_true(map.lost);
	assert_false(index_prove(&map, 0, a.cookie[0])); /* doubt comes first */
	index_doubt(&map);
	for (unsigned i = 0; i < a.n; i++)
		assert_int_equal(index_find(&map, a.cookie[i]), -EAGAIN);
	for (unsigned i = 0; i < a.n - 1; i++)
		assert_true(index_prove(&map, i, a.cookie[i]));
	assert_exact(&a); /* the last one is the only one left */
}

static void what_is_certain_is_not_proven_otherwise(void **state)
{
	struct array a = array_of(3);

	(void)state;
	assert_false(index_prove(&map, 0, a.cookie[1]));
	assert_false(index_prove(&map, 7, a.cookie[1]));
	assert_false(index_prove(&map, 1, 12345));
	assert_true(index_prove(&map, 1, a.cookie[1]));
	assert_exact(&a);
}

static bool is_marked(uint64_t cookie)
{
	for (unsigned i = 0; i < map.n; i++)
		if (map.e[i].cookie == cookie)
			return map.e[i].marked;
	fail_msg("socket %u is not in the map", (unsigned)cookie);
	return false;
}

static void a_mark_goes_with_its_socket(void **state)
{
	struct array a = { .n = 0 };

	(void)state;
	for (uint64_t c = 1; c <= 4; c++)
		join(&a, c);
	update(&a);
	for (unsigned i = 0; i < map.n; i++)
		map.e[i].marked = map.e[i].cookie != 3;
	join(&a, 5);
	update(&a);
	assert_true(is_marked(1) && is_marked(2) && !is_marked(3) && is_marked(4) && !is_marked(5));
	assert_true(index_prove(&map, 0, 1)); /* wherever the four were taken to be, all change places */
	assert_true(index_prove(&map, 2, 3));
	assert_true(is_marked(1) && is_marked(2) && !is_marked(3) && is_marked(4) && !is_marked(5));
	leave_at(&a, 0); /* the fifth moves there */
	update(&a);
	assert_true(is_marked(2) && !is_marked(3) && is_marked(4) && !is_marked(5));
	leave_at(&a, 0);
	update(&a);
	join(&a, 5); /* another one of that number */
	update(&a);
	assert_true(is_marked(2) && !is_marked(3) && is_marked(4) && !is_marked(5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_joining_socket_is_the_last, fresh_map),
		cmocka_unit_test_setup(the_last_socket_moves_into_the_hole, fresh_map),
		cmocka_unit_test_setup(the_end_of_the_last_socket_moves_nothing, fresh_map),
		cmocka_unit_test_setup(several_new_sockets_are_known_only_together, fresh_map),
		cmocka_unit_test_setup(the_only_uncertain_socket_left_has_the_only_place_left,
				       fresh_map),
		cmocka_unit_test_setup(an_order_that_cannot_be_proven_is_not_guessed, fresh_map),
		cmocka_unit_test_setup(one_that_leaves_while_another_joins_is_not_guessed,
				       fresh_map),
		cmocka_unit_test_setup(a_lost_order_comes_back_with_an_empty_group, fresh_map),
		cmocka_unit_test_setup(a_lost_order_comes_back_with_a_single_socket, fresh_map),
		cmocka_unit_test_setup(more_sockets_than_places_are_never_written, fresh_map),
		cmocka_unit_test_setup(a_lost_order_can_be_proven_one_by_one, fresh_map),
		cmocka_unit_test_setup(what_is_certain_is_not_proven_otherwise, fresh_map),
		cmocka_unit_test_setup(single_changes_are_followed_exactly, fresh_map),
		cmocka_unit_test_setup(what_is_certain_is_true, fresh_map),
		cmocka_unit_test_setup(a_mark_goes_with_its_socket, fresh_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

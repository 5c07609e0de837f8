/* core/pool.c: memory that is not the server's malloc. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "../../shim/core/pool.h"

#define PIECES 600

static void pieces_do_not_overlap(void **state)
{
	static uint8_t *piece[PIECES];

	(void)state;
	for (unsigned i = 0; i < PIECES; i++) {
		piece[i] = pool_alloc(1 + i * 7);
		assert_non_null(piece[i]);
		memset(piece[i], (int)(i & 0xff), 1 + i * 7);
	}
	for (unsigned i = 0; i < PIECES; i++) {
		for (unsigned b = 0; b < 1 + i * 7; b++)
			assert_int_equal(piece[i][b], i & 0xff);
		pool_free(piece[i], 1 + i * 7);
	}
}

static void pieces_are_aligned_for_anything(void **state)
{
	(void)state;
	for (size_t bytes = 1; bytes < 100000; bytes = bytes * 3 / 2 + 1) {
		void *p = pool_alloc(bytes);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		pool_free(p, bytes);
	}
}

static void a_freed_piece_is_used_again(void **state)
{
	void *first = pool_alloc(300), *second;

	(void)state;
	assert_non_null(first);
	pool_free(first, 300);
	second = pool_alloc(290); /* the same power of two */
	assert_ptr_equal(second, first);
	pool_free(second, 290);
}

static void the_largest_is_given_and_more_is_not(void **state)
{
	const size_t largest = (size_t)1 << 24;
	char *p = pool_alloc(largest);

	(void)state;
	assert_non_null(p);
	p[0] = p[largest - 1] = 1;
	pool_free(p, largest);
	assert_null(pool_alloc(largest + 1));
	assert_null(pool_alloc(SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_do_not_overlap),
		cmocka_unit_test(pieces_are_aligned_for_anything),
		cmocka_unit_test(a_freed_piece_is_used_again),
		cmocka_unit_test(the_largest_is_given_and_more_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

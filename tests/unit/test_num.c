/* util/num.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../../shim/util/num.h"

static int parse(const char *text, long min, long max, long *ret)
{
	return num_parse(text, strlen(text), min, max, ret);
}

static void whole_numbers_are_read(void **state)
{
	long v = -1;

	(void)state;
	assert_int_equal(parse("0", 0, 9, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse("8080", 1, 65535, &v), 0);
	assert_int_equal(v, 8080);
	assert_int_equal(parse("0010", 0, 99, &v), 0); /* decimal, never octal */
	assert_int_equal(v, 10);
}

static void only_the_given_length_counts(void **state)
{
	long v = -1;

	(void)state;
	assert_int_equal(num_parse("8080x", 4, 1, 65535, &v), 0);
	assert_int_equal(v, 8080);
	assert_int_equal(num_parse("80\0", 3, 1, 65535, &v), -EINVAL);
}

static void what_is_no_number_is_refused(void **state)
{
	static const char *const bad[] = {
		"",    " 1",	   "1 ",  "+1",	 "-1",	"0x10",
		"1e3", "1.0",	   "1,0", "\t1", "1\n", "abc",
		"80x", "\xd9\xa1", "--1", "/",	 "1:2", "99999999999999999999999999x"};
	long v = 77;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(bad[i], 0, 100, &v), -EINVAL);
	assert_int_equal(v, 77);
}

static void the_limits_belong_to_the_range(void **state)
{
	long v = 77;

	(void)state;
	assert_int_equal(parse("9", 10, 20, &v), -ERANGE);
	assert_int_equal(parse("21", 10, 20, &v), -ERANGE);
	assert_int_equal(v, 77);
	assert_int_equal(parse("10", 10, 20, &v), 0);
	assert_int_equal(v, 10);
	assert_int_equal(parse("20", 10, 20, &v), 0);
	assert_int_equal(v, 20);
}

static void numbers_past_a_long_do_not_wrap(void **state)
{
	char text[64];
	long v = 77;

	(void)state;
	snprintf(text, sizeof(text), "%ld", LONG_MAX);
	assert_int_equal(parse(text, 0, LONG_MAX, &v), 0);
	assert_true(v == LONG_MAX);
	text[strlen(text) - 1]++; /* LONG_MAX ends in 7, with 32 bits as with 64 */
	assert_int_equal(parse(text, 0, LONG_MAX, &v), -ERANGE);
	assert_int_equal(parse("18446744073709551617", 0, 100, &v), -ERANGE); /* 2^64 + 1 */
	assert_int_equal(parse("4294967297", 0, 100, &v), -ERANGE);
	assert_int_equal(parse("99999999999999999999999999999999999990", 0, LONG_MAX, &v), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_numbers_are_read),
		cmocka_unit_test(only_the_given_length_counts),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(the_limits_belong_to_the_range),
		cmocka_unit_test(numbers_past_a_long_do_not_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

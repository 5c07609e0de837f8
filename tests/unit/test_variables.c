/* cli/variables.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "../../shim/cli/variables.h"

static void refused(const char *name, const char *text, int result, const char *says)
{
	char error[OPTIONS_ERROR_MAX] = "";
	struct variables v;

	setenv(name, text, 1);
	assert_int_equal(variables_read(&v, error), result);
	assert_string_equal(error, says);
	unsetenv(name);
}

static void bad_variables_are_refused_by_name(void **state)
{
	(void)state;
	refused("SOCKSHARD_GROUP", "a b", -EINVAL,
		"SOCKSHARD_GROUP: column 2: found \" b\", allowed: 1 to 63 of A-Z a-z 0-9 . _ -");
	refused("SOCKSHARD_SLOT", "-1", -EINVAL,
		"SOCKSHARD_SLOT: column 1: found \"-1\", allowed: 0-1023");
	refused("SOCKSHARD_STRICT", "yes", -EINVAL,
		"SOCKSHARD_STRICT: column 1: found \"yes\", allowed: 0 or 1");
	refused("SOCKSHARD_WEIGHT", "1001", -EINVAL,
		"SOCKSHARD_WEIGHT: column 1: found \"1001\", allowed: 0-1000");
	refused("SOCKSHARD_WEIGHT", "0", -ENOTSUP,
		"SOCKSHARD_WEIGHT: a weight of 0 is not supported by this version");
	refused("SOCKSHARD_WORKERS", "both", -EINVAL,
		"SOCKSHARD_WORKERS: column 1: found \"both\", allowed: own or shared");
	refused("SOCKSHARD_KEEPER", "a b", -EINVAL,
		"SOCKSHARD_KEEPER: column 2: found \" b\", allowed: auto, off or a name of 1 to "
		"107 "
		"visible characters");
	refused("SOCKSHARD_LOG", "loud", -EINVAL,
		"SOCKSHARD_LOG: column 1: found \"loud\", allowed: error, warn, info or debug, or "
		"one "
		"of them with :/path");
	refused("SOCKSHARD_LIBRARY", "lib.so", -EINVAL,
		"SOCKSHARD_LIBRARY: column 1: found \"lib.so\", allowed: an absolute path");
}

static void good_variables_are_taken(void **state)
{
	char error[OPTIONS_ERROR_MAX];
	struct variables v;

	(void)state;
	assert_int_equal(variables_read(&v, error), 0);
	assert_false(v.keeper_off || v.strict);
	assert_null(v.keeper);
	setenv("SOCKSHARD_GROUP", "", 1); /* the empty name is the default */
	setenv("SOCKSHARD_KEEPER", "off", 1);
	setenv("SOCKSHARD_STRICT", "1", 1);
	assert_int_equal(variables_read(&v, error), 0);
	assert_null(v.group);
	assert_true(v.keeper_off && v.strict);
	setenv("SOCKSHARD_KEEPER", "my/keeper", 1);
	assert_int_equal(variables_read(&v, error), 0);
	assert_false(v.keeper_off);
	assert_string_equal(v.keeper, "my/keeper");
	unsetenv("SOCKSHARD_GROUP");
	unsetenv("SOCKSHARD_KEEPER");
	unsetenv("SOCKSHARD_STRICT");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_variables_are_refused_by_name),
		cmocka_unit_test(good_variables_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

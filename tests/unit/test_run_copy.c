/* cli/run_copy.c: words and environment of a copy */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "../../shim/cli/run.h"

static char one[] = "/bin/{slot}", two[] = "--port=80{slot}-{slot}", three[] = "{slot", four[] = "";
static char *command[] = {one, two, three, four, NULL};

static struct run begin(void)
{
	struct run r = {.first = 12, .policy = "8080"};

	r.options.command = command;
	strcpy(r.group, "web");
	strcpy(r.self, "/opt/sockshard");
	strcpy(r.library.path, "/opt/libsockshard.so");
	return r;
}

static const char *value(char **env, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name), i;

	for (i = 0; env[i] != NULL; i++) {
		if (strncmp(env[i], name, n) == 0 && env[i][n] == '=') {
			assert_null(found); /* once only */
			found = env[i] + n + 1;
		}
	}
	return found;
}

static void the_slot_goes_into_arguments_but_not_the_command(void **state)
{
	struct run r = begin();
	char **argv = run_copy_arguments(&r, 3);

	(void)state;
	assert_non_null(argv);
	assert_string_equal(argv[0], "/bin/{slot}");
	assert_string_equal(argv[1], "--port=8015-15");
	assert_string_equal(argv[2], "{slot");
	assert_string_equal(argv[3], "");
	assert_null(argv[4]);
	run_copy_free(argv);
}

static void a_copy_gets_its_own_variables_once(void **state)
{
	struct run r = begin();
	char **env;

	(void)state;
	setenv("SOCKSHARD_SLOT", "77", 1);
	setenv("SOCKSHARD_GENERATION", "5", 1);
	setenv("SOCKSHARD_LOG", "debug", 1);
	setenv("SOME_OTHER", "kept", 1);
	unsetenv("LD_PRELOAD");
	env = run_copy_environment(&r, 1);
	assert_non_null(env);
	assert_string_equal(value(env, "SOCKSHARD_SLOT"), "13");
	assert_string_equal(value(env, "SOCKSHARD_GROUP"), "web");
	assert_string_equal(value(env, "SOCKSHARD_POLICY"), "8080");
	assert_string_equal(value(env, "SOCKSHARD_COMMAND"), "/opt/sockshard");
	assert_string_equal(value(env, "LD_PRELOAD"), "/opt/libsockshard.so");
	assert_null(value(env, "SOCKSHARD_GENERATION"));
	assert_string_equal(value(env, "SOCKSHARD_LOG"), "debug");
	assert_string_equal(value(env, "SOME_OTHER"), "kept");
	run_copy_free(env);
	unsetenv("SOCKSHARD_SLOT");
	unsetenv("SOCKSHARD_GENERATION");
	unsetenv("SOCKSHARD_LOG");
}

static void other_preloads_stay_behind_ours(void **state)
{
	struct run r = begin();
	char **env;

	(void)state;
	setenv("LD_PRELOAD", "/opt/other.so", 1);
	env = run_copy_environment(&r, 0);
	assert_string_equal(value(env, "LD_PRELOAD"), "/opt/libsockshard.so:/opt/other.so");
	run_copy_free(env);
	setenv("LD_PRELOAD", "/opt/other.so /opt/libsockshard.so", 1); /* a run inside a run */
	env = run_copy_environment(&r, 0);
	assert_string_equal(value(env, "LD_PRELOAD"), "/opt/other.so /opt/libsockshard.so");
	run_copy_free(env);
	unsetenv("LD_PRELOAD");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_slot_goes_into_arguments_but_not_the_command),
		cmocka_unit_test(a_copy_gets_its_own_variables_once),
		cmocka_unit_test(other_preloads_stay_behind_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

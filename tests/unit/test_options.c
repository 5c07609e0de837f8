/* cli/options.c and cli/run_options.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "../../shim/cli/options.h"
#include "../../shim/cli/run_options.h"

#define WORDS 16

static const struct options_spec specs[] = {
	{1, 'n', "copies", "a number 1-9"},
	{2, 0, "pin", NULL},
	{3, 'h', "help", NULL},
	{0, 0, NULL, NULL},
};

/* The words of a command line as main() gets them. */
struct line {
	char text[WORDS][80];
	char *argv[WORDS + 1];
};

static struct options begin(struct line *line, ...) __attribute__((sentinel));

static struct options begin(struct line *line, ...)
{
	struct options o = {.specs = specs, .argv = line->argv, .next = 1};
	const char *word;
	int n = 1;
	va_list ap;

	strcpy(line->text[0], "run");
	line->argv[0] = line->text[0];
	va_start(ap, line);
	while ((word = va_arg(ap, const char *)) != NULL) {
		strcpy(line->text[n], word);
		line->argv[n] = line->text[n];
		n++;
	}
	va_end(ap);
	line->argv[n] = NULL;
	return o;
}

static void a_value_is_attached_or_the_next_word(void **state)
{
	static const char *const lines[][2] = {
		{"-n4", NULL}, {"-n", "4"}, {"--copies=4", NULL}, {"--copies", "4"}};
	struct line line;
	size_t i;
	long v;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct options o = begin(&line, lines[i][0], lines[i][1], NULL);

		assert_int_equal(options_next(&o), 1);
		assert_string_equal(o.value, "4");
		assert_string_equal(o.name, i < 2 ? "-n" : "--copies");
		assert_int_equal(options_number(&o, 1, 9, &v), 0);
		assert_int_equal(v, 4);
		assert_int_equal(options_next(&o), OPTIONS_END);
	}
}

static void a_value_may_begin_with_a_dash_or_be_empty(void **state)
{
	struct line line;
	struct options o = begin(&line, "-n", "-4", "--copies=", NULL);
	long v;

	(void)state;
	assert_int_equal(options_next(&o), 1);
	assert_string_equal(o.value, "-4");
	assert_int_equal(options_number(&o, 1, 9, &v), -EINVAL);
	assert_string_equal(o.error, "-n: column 1: found \"-4\", allowed: a number 1-9");
	assert_int_equal(options_next(&o), 1);
	assert_int_equal(options_number(&o, 1, 9, &v), -EINVAL);
	assert_string_equal(o.error, "--copies: column 1: found the end, allowed: a number 1-9");
}

static void operands_and_the_rest_are_told_apart(void **state)
{
	struct line line;
	struct options o = begin(&line, "a", "-", "--pin", "--", "-n", NULL);

	(void)state;
	assert_int_equal(options_next(&o), OPTIONS_OPERAND);
	assert_string_equal(o.value, "a");
	assert_int_equal(options_next(&o), OPTIONS_OPERAND);
	assert_string_equal(o.value, "-");
	assert_int_equal(options_next(&o), 2);
	assert_null(o.value);
	assert_int_equal(options_next(&o), OPTIONS_REST);
	assert_string_equal(o.argv[o.next], "-n");
}

static void refused(const char *word, const char *second, const char *error)
{
	struct line line;
	struct options o = begin(&line, word, second, NULL);

	assert_int_equal(options_next(&o), -EINVAL);
	assert_string_equal(o.error, error);
}

static void what_is_not_an_option_is_named(void **state)
{
	(void)state;
	refused("--nope", NULL,
		"run: unknown option \"--nope\"; `sockshard run --help` lists them");
	refused("--copie=1", NULL,
		"run: unknown option \"--copie=1\"; `sockshard run --help` lists them");
	refused("--copiesx", NULL,
		"run: unknown option \"--copiesx\"; `sockshard run --help` lists them");
	refused("-x", NULL, "run: unknown option \"-x\"; `sockshard run --help` lists them");
	refused("-hn", "4", "run: unknown option \"-hn\"; `sockshard run --help` lists them");
	refused("--\033[2J", NULL,
		"run: unknown option \"--\\x1b[2J\"; `sockshard run --help` lists them");
	refused("-n", NULL, "-n: the value is missing, allowed: a number 1-9");
	refused("--pin=1", NULL, "--pin: found \"1\", allowed: no value");
	refused("--pin=", NULL, "--pin: found \"\", allowed: no value");
}

static int read_run(struct run_options *run, char error[OPTIONS_ERROR_MAX], const char *option,
		    const char *value)
{
	struct line line;

	if (option == NULL)
		begin(&line, "--", "server", "arg", NULL);
	else if (value == NULL)
		begin(&line, option, "--", "server", NULL);
	else
		begin(&line, option, value, "--", "server", NULL);
	return run_options_read(line.argv, run, error);
}

static void what_is_not_given_has_its_default(void **state)
{
	char error[OPTIONS_ERROR_MAX];
	struct run_options run;
	struct line line;

	(void)state;
	begin(&line, "--", "server", "-n", NULL);
	assert_int_equal(run_options_read(line.argv, &run, error), 0);
	assert_int_equal(run.show, RUN_SHOW_NOTHING);
	assert_int_equal(run.copies, 1);
	assert_null(run.policy);
	assert_null(run.group);
	assert_false(run.pin || run.prefix);
	assert_int_equal(run.grace_ms, 10000);
	assert_int_equal(run.stop_signal, SIGTERM);
	assert_int_equal(run.restart, RUN_RESTART_ALWAYS);
	assert_string_equal(run.command[0], "server");
	assert_string_equal(run.command[1], "-n");
	assert_null(run.command[2]);
}

static void every_option_of_run_is_read(void **state)
{
	char error[OPTIONS_ERROR_MAX];
	struct run_options run;
	struct line line;

	(void)state;
	begin(&line, "-n", "auto", "-p", "8080", "-g", "a.B_c-9", "-w", "1", "--pin", "--prefix",
	      "--grace=0", "--", "x", NULL);
	assert_int_equal(run_options_read(line.argv, &run, error), 0);
	assert_int_equal(run.copies, 0);
	assert_string_equal(run.policy, "8080");
	assert_string_equal(run.group, "a.B_c-9");
	assert_true(run.pin && run.prefix);
	assert_int_equal(run.grace_ms, 0);
	assert_int_equal(read_run(&run, error, "--restart", "on-failure"), 0);
	assert_int_equal(run.restart, RUN_RESTART_ON_FAILURE);
	assert_int_equal(read_run(&run, error, "--restart=no", NULL), 0);
	assert_int_equal(run.restart, RUN_RESTART_NO);
	assert_int_equal(read_run(&run, error, "--copies", "1024"), 0);
	assert_int_equal(run.copies, 1024);
}

static void a_signal_has_a_name_or_a_number(void **state)
{
	static const struct {
		const char *text;
		int number;
	} good[] = {{"INT", SIGINT}, {"SIGQUIT", SIGQUIT}, {"9", SIGKILL}, {"64", 64}};
	static const char *const bad[] = {"0", "65", "int", "SIG", "SIGSIGINT", "", "15 "};
	char error[OPTIONS_ERROR_MAX];
	struct run_options run;
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		assert_int_equal(read_run(&run, error, "--stop-signal", good[i].text), 0);
		assert_int_equal(run.stop_signal, good[i].number);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(read_run(&run, error, "--stop-signal", bad[i]), -EINVAL);
}

static void refused_by_run(const char *option, const char *value, int result, const char *says)
{
	char error[OPTIONS_ERROR_MAX] = "";
	struct run_options run;

	assert_int_equal(read_run(&run, error, option, value), result);
	assert_string_equal(error, says);
}

static void run_refuses_with_the_name_the_place_and_the_range(void **state)
{
	(void)state;
	refused_by_run("-n", "0", -EINVAL,
		       "-n: column 1: found \"0\", allowed: a number 1-1024 or auto");
	refused_by_run("--copies", "1025", -EINVAL,
		       "--copies: column 1: found \"1025\", allowed: a number 1-1024 or auto");
	refused_by_run("-g", "a/b", -EINVAL,
		       "-g: column 2: found \"/b\", allowed: 1 to 63 of A-Z a-z 0-9 . _ -");
	refused_by_run("-g", "0123456789012345678901234567890123456789012345678901234567890123",
		       -EINVAL,
		       "-g: column 64: found \"3\", allowed: 1 to 63 of A-Z a-z 0-9 . _ -");
	refused_by_run("--grace", "1.5", -EINVAL,
		       "--grace: column 1: found \"1.5\", allowed: seconds 0-86400");
	refused_by_run("--restart", "never", -EINVAL,
		       "--restart: column 1: found \"never\", allowed: always, on-failure or no");
	refused_by_run(
		"server", NULL, -EINVAL,
		"run: column 1: found \"server\", allowed: an option, or -- before the command");
	refused_by_run("-w", "2", -ENOTSUP, "-w: a weight of 2 is not supported by this version");
	refused_by_run("-w", "1001", -EINVAL,
		       "-w: column 1: found \"1001\", allowed: a weight 0-1000");
	refused_by_run("--drain", "5", -ENOTSUP, "run: --drain: not in this version");
}

static void a_command_is_needed(void **state)
{
	char error[OPTIONS_ERROR_MAX];
	struct run_options run;
	struct line line;

	(void)state;
	begin(&line, "-n", "2", "--", NULL);
	assert_int_equal(run_options_read(line.argv, &run, error), -EINVAL);
	assert_string_equal(error, "run: the command is missing, allowed: -- COMMAND [ARG ...]");
	begin(&line, "-n", "2", NULL);
	assert_int_equal(run_options_read(line.argv, &run, error), -EINVAL);
}

static void help_and_version_need_no_command(void **state)
{
	char error[OPTIONS_ERROR_MAX];
	struct run_options run;
	struct line line;

	(void)state;
	begin(&line, "-n", "2", "--help", "--nonsense", NULL);
	assert_int_equal(run_options_read(line.argv, &run, error), 0);
	assert_int_equal(run.show, RUN_SHOW_HELP);
	begin(&line, "--version", NULL);
	assert_int_equal(run_options_read(line.argv, &run, error), 0);
	assert_int_equal(run.show, RUN_SHOW_VERSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_is_attached_or_the_next_word),
		cmocka_unit_test(a_value_may_begin_with_a_dash_or_be_empty),
		cmocka_unit_test(operands_and_the_rest_are_told_apart),
		cmocka_unit_test(what_is_not_an_option_is_named),
		cmocka_unit_test(what_is_not_given_has_its_default),
		cmocka_unit_test(every_option_of_run_is_read),
		cmocka_unit_test(a_signal_has_a_name_or_a_number),
		cmocka_unit_test(run_refuses_with_the_name_the_place_and_the_range),
		cmocka_unit_test(a_command_is_needed),
		cmocka_unit_test(help_and_version_need_no_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

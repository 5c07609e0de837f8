/* cli/command.c and cli/library.c, on files in a folder of their own. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shim/cli/command.h"
#include "../../shim/cli/library.h"

static char folder[] = "/tmp/test_command.XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static char paths[4][64]; /* so many names at a time */

static const char *in(const char *name)
{
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static const char *file(const char *name, const void *bytes, size_t n, mode_t mode)
{
	const char *path = in(name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static const char *script(const char *name, const char *text)
{
	return file(name, text, strlen(text), 0755);
}

/* A 64-bit x86-64 program with the given interpreter, NULL: static. */
static const char *program(const char *name, const char *interp, mode_t mode)
{
	uint8_t b[512] = "\177ELF\2\1\1";

	b[16] = 3;
	b[18] = 62;
	b[32] = 64; /* program headers */
	b[54] = 56;
	b[56] = 1;
	b[64] = interp != NULL ? 3 : 1;
	if (interp != NULL) {
		b[64 + 8] = 200;
		b[64 + 32] = (uint8_t)(strlen(interp) + 1);
		strcpy((char *)b + 200, interp);
	}
	return file(name, b, sizeof(b), mode);
}

#define GLIBC "/lib64/ld-linux-x86-64.so.2"

static const struct elf_info library = {
	.bits = 64, .machine = 62, .type = 3, .libc = ELF_LIBC_GLIBC};

static struct command_report report;

static enum command_verdict judge(const char *path)
{
	command_inspect(path, folder, &library, &report);
	assert_int_equal(report.status == 0, report.verdict == COMMAND_FITS);
	return report.verdict;
}

static void a_dynamic_program_of_the_same_libc_fits(void **state)
{
	const char *path = program("fits", GLIBC, 0755);

	(void)state;
	assert_int_equal(judge(path), COMMAND_FITS);
	assert_string_equal(report.path, path);
	assert_string_equal(report.judged, path);
}

static void each_refusal_has_its_reason_and_status(void **state)
{
	(void)state;
	assert_int_equal(judge(program("static", NULL, 0755)), COMMAND_STATIC);
	assert_int_equal(report.status, 69);
	assert_non_null(
		strstr(report.text, "/static is a static program: a preload cannot reach it"));
	assert_int_equal(judge(program("suid", GLIBC, 04755)), COMMAND_SETUID);
	assert_non_null(strstr(report.text, "/suid is setuid"));
	assert_int_equal(judge(program("sgid", GLIBC, 02755)), COMMAND_SETUID);
	assert_non_null(strstr(report.text, "/sgid is setgid"));
	assert_int_equal(report.status, 69);
	assert_int_equal(judge(program("musl", "/lib/ld-musl-x86_64.so.1", 0755)),
			 COMMAND_FOREIGN_LIBC);
	assert_non_null(strstr(report.text, "uses musl (/lib/ld-musl-x86_64.so.1)"));
	assert_int_equal(report.status, 69);
	assert_int_equal(judge(file("cut", "\177ELF\2\1", 6, 0755)), COMMAND_NOT_EXECUTABLE);
	assert_int_equal(report.status, 126);
}

static void another_machine_is_told(void **state)
{
	const struct elf_info arm = {.bits = 64, .machine = 183, .libc = ELF_LIBC_GLIBC};
	const struct elf_info narrow = {.bits = 32, .machine = 62, .libc = ELF_LIBC_GLIBC};
	const char *path = program("machine", GLIBC, 0755);

	(void)state;
	command_inspect(path, folder, &arm, &report);
	assert_int_equal(report.verdict, COMMAND_FOREIGN_MACHINE);
	assert_non_null(strstr(report.text,
			       "a 64-bit x86-64 program, libsockshard.so is for 64-bit "
			       "AArch64"));
	command_inspect(path, folder, &narrow, &report);
	assert_int_equal(report.verdict, COMMAND_FOREIGN_MACHINE);
	command_inspect(path, folder, NULL, &report);
	assert_int_equal(report.verdict, COMMAND_FITS);
}

static void a_script_is_judged_by_its_interpreter(void **state)
{
	char text[200];

	(void)state;
	snprintf(text, sizeof(text), "#! %s -x\nrest\n", program("inner", NULL, 0755));
	assert_int_equal(judge(script("outer", text)), COMMAND_STATIC);
	assert_non_null(strstr(report.text, "/outer is run by "));
	assert_non_null(strstr(report.text, "/inner, which is a static program"));
	program("inner", GLIBC, 0755);
	assert_int_equal(judge(in("outer")), COMMAND_FITS);
}

static void env_is_looked_through(void **state)
{
	static const char *const lines[] = {
		"#!/usr/bin/env inner2\n", "#!/usr/bin/env -S inner2 -u\n",
		"#!/usr/bin/env -S A=b inner2\n", "#!/bin/env -Sinner2\n"};
	size_t i;

	(void)state;
	program("inner2", NULL, 0755);
	for (i = 0; i < 4; i++)
		assert_int_equal(judge(script("by-env", lines[i])), COMMAND_STATIC);
}

static void scripts_run_by_scripts_are_followed_four_deep(void **state)
{
	char text[200];
	const char *last = program("s0", NULL, 0755);
	int i;

	(void)state;
	for (i = 1; i <= 5; i++) {
		char name[8];

		snprintf(name, sizeof(name), "s%d", i);
		snprintf(text, sizeof(text), "#!%s\n", last);
		last = script(name, text);
		assert_int_equal(judge(last), i <= 4 ? COMMAND_STATIC : COMMAND_NOT_EXECUTABLE);
	}
}

static void a_text_without_a_first_line_is_for_the_shell(void **state)
{
	(void)state;
	command_inspect(script("plain", "echo hello\n"), folder, NULL, &report);
	assert_string_equal(report.judged, "/bin/sh");
}

static void a_missing_interpreter_is_told(void **state)
{
	(void)state;
	assert_int_equal(judge(script("lost", "#!/nonexistent/x\n")), COMMAND_NOT_EXECUTABLE);
	assert_int_equal(report.status, 126);
	assert_non_null(strstr(report.text, "is run by /nonexistent/x, which is not there"));
}

static void a_command_is_found_as_execvp_would(void **state)
{
	char found[PATH_MAX], search[200];
	const char *path = program("server", GLIBC, 0755);

	(void)state;
	snprintf(search, sizeof(search), "/nonexistent:%s:/bin", folder);
	assert_int_equal(command_find("server", search, found), 0);
	assert_string_equal(found, path);
	assert_int_equal(command_find(path, "", found), 0);
	assert_int_equal(command_find("server", "/nonexistent", found), -ENOENT);
	assert_int_equal(command_find("", search, found), -ENOENT);
	assert_int_equal(command_find("sh", NULL, found), 0);
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(command_find("server", "/nonexistent:", found), 0);
	assert_string_equal(found, "./server"); /* an empty entry; the slash stays */
}

static void what_may_not_be_executed_is_126_and_what_is_not_there_127(void **state)
{
	const char *path = file("data", "x", 1, 0644);

	(void)state;
	assert_int_equal(judge(path), COMMAND_NOT_EXECUTABLE);
	assert_int_equal(report.status, 126);
	assert_int_equal(judge(folder), COMMAND_NOT_EXECUTABLE);
	assert_int_equal(judge("data"), COMMAND_NOT_EXECUTABLE);
	assert_int_equal(judge("nothing-of-this-name"), COMMAND_NOT_FOUND);
	assert_int_equal(report.status, 127);
	assert_string_equal(report.text, "nothing-of-this-name: command not found");
}

static void the_library_is_beside_the_command_or_in_lib(void **state)
{
	char self[80], why[3 * PATH_MAX], text[120];
	struct library lib;

	(void)state;
	assert_int_equal(mkdir(in("bin"), 0755), 0);
	assert_int_equal(mkdir(in("lib"), 0755), 0);
	assert_int_equal(mkdir(in("lib/sockshard"), 0755), 0);
	snprintf(self, sizeof(self), "%s/bin/sockshard", folder);
	assert_int_equal(library_find(self, NULL, &lib, why), -ENOENT);
	assert_non_null(strstr(why, "/bin/libsockshard.so"));
	assert_non_null(strstr(why, "/lib/sockshard/libsockshard.so"));
	assert_non_null(strstr(why, "SOCKSHARD_LIBRARY (not set)"));

	program("else.so", NULL, 0644);
	snprintf(text, sizeof(text), "%s/else.so", folder);
	assert_int_equal(library_find(self, text, &lib, why), 0);
	assert_string_equal(lib.path, text);
	program("lib/sockshard/libsockshard.so", NULL, 0644);
	assert_int_equal(library_find(self, text, &lib, why), 0);
	assert_non_null(strstr(lib.path, "/lib/sockshard/libsockshard.so"));
	program("bin/libsockshard.so", NULL, 0644);
	assert_int_equal(library_find(self, text, &lib, why), 0);
	assert_non_null(strstr(lib.path, "/bin/libsockshard.so"));
	assert_int_equal(lib.elf.machine, 62);
}

static void a_library_that_cannot_be_preloaded_is_refused(void **state)
{
	char self[80], why[3 * PATH_MAX];
	struct library lib;

	(void)state;
	assert_int_equal(mkdir(in("a b"), 0755), 0);
	program("a b/libsockshard.so", NULL, 0644);
	snprintf(self, sizeof(self), "%s/a b/sockshard", folder);
	assert_int_equal(library_find(self, NULL, &lib, why), -EINVAL);
	assert_non_null(strstr(why, "LD_PRELOAD cannot carry a path with a space"));
	script("a b/libsockshard.so", "no library\n");
	assert_int_equal(library_find(self, NULL, &lib, why), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dynamic_program_of_the_same_libc_fits),
		cmocka_unit_test(each_refusal_has_its_reason_and_status),
		cmocka_unit_test(another_machine_is_told),
		cmocka_unit_test(a_script_is_judged_by_its_interpreter),
		cmocka_unit_test(env_is_looked_through),
		cmocka_unit_test(scripts_run_by_scripts_are_followed_four_deep),
		cmocka_unit_test(a_text_without_a_first_line_is_for_the_shell),
		cmocka_unit_test(a_missing_interpreter_is_told),
		cmocka_unit_test(a_command_is_found_as_execvp_would),
		cmocka_unit_test(what_may_not_be_executed_is_126_and_what_is_not_there_127),
		cmocka_unit_test(the_library_is_beside_the_command_or_in_lib),
		cmocka_unit_test(a_library_that_cannot_be_preloaded_is_refused),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

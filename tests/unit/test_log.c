/* util/log.c: one line per event, never to somebody else's descriptor 2, and to nobody's harm. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shim/util/log.h"

static char folder[] = "/tmp/sockshard-log-XXXXXX";
static char path[64], spec[80];
static int real_stderr;
static char text[8192];

/* Standard error is a file, as at the start of a program whose errors are kept. */
static int begin(void **state)
{
	int fd;

	(void)state;
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	assert_non_null(mkdtemp(folder));
	strcpy(path, folder);
	strcat(path, "/log");
	real_stderr = dup(STDERR_FILENO);
	fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0644);
	assert_return_code(fd, errno);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	close(fd);
	return 0;
}

static int end(void **state)
{
	(void)state;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	unlink(path);
	rmdir(folder);
	return log_setup(NULL);
}

static const char *content(const char *of)
{
	int fd = open(of, O_RDONLY);
	ssize_t n;

	if (fd == -1)
		return "(none)";
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static void say_all(void)
{
	log_error("error %d", 1);
	log_warn("warn %s", "two");
	log_info("info");
	log_debug("debug");
}

static void warnings_and_errors_are_written_by_default(void **state)
{
	(void)state;
	assert_int_equal(log_setup(NULL), 0);
	say_all();
	assert_string_equal(content(path), "sockshard: error 1\nsockshard: warn two\n");
	assert_true(log_enabled(LOG_WARN));
	assert_false(log_enabled(LOG_INFO));
}

static void a_level_decides_what_is_written(void **state)
{
	(void)state;
	assert_int_equal(log_setup("error"), 0);
	say_all();
	assert_string_equal(content(path), "sockshard: error 1\n");
	assert_int_equal(log_setup("info"), 0);
	log_info("more");
	log_debug("less");
	assert_string_equal(content(path), "sockshard: error 1\nsockshard: more\n");
	assert_int_equal(log_setup("debug"), 0);
	assert_true(log_enabled(LOG_DEBUG));
}

static void a_bad_spec_means_warnings_on_standard_error(void **state)
{
	static const char *const bad[] = {"",	    "loud",	  "warning",	    "war",
					  "warn:",  "warn:file",  "debug:log/file", "WARN",
					  "error ", ":/tmp/file", "warn,/tmp/file"};
	char longest[400] = "debug:/";

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(log_setup("debug"), 0);
		assert_int_equal(log_setup(bad[i]), -EINVAL);
		assert_true(log_enabled(LOG_WARN));
		assert_false(log_enabled(LOG_INFO));
	}
	memset(longest + 7, 'x', 300);
	assert_int_equal(log_setup(longest), -EINVAL);
	assert_false(log_enabled(LOG_INFO));
	log_warn("still here");
	assert_string_equal(content(path), "sockshard: still here\n");
}

static void a_path_is_appended_to_and_private(void **state)
{
	char other[80];
	struct stat st;

	(void)state;
	strcpy(other, folder);
	strcat(other, "/other");
	strcpy(spec, "info:");
	strcat(spec, other);
	umask(0);
	assert_int_equal(log_setup(spec), 0);
	log_info("one");
	assert_return_code(stat(other, &st), errno);
	assert_int_equal(st.st_mode & 0777, 0600);
	log_info("two");
	log_debug("three");
	assert_string_equal(content(other), "sockshard: one\nsockshard: two\n");
	assert_string_equal(content(path), "");
	unlink(other); /* rotated */
	log_info("four");
	assert_string_equal(content(other), "sockshard: four\n");
	unlink(other);
}

static void no_descriptor_stays_open(void **state)
{
	int before = dup(STDERR_FILENO), after;

	(void)state;
	close(before);
	strcpy(spec, "info:");
	strcat(spec, path);
	assert_int_equal(log_setup(spec), 0);
	log_info("one");
	after = dup(STDERR_FILENO);
	close(after);
	assert_int_equal(after, before);
}

static void a_long_line_is_cut(void **state)
{
	char longest[3000];
	const char *line;

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(log_setup(NULL), 0);
	log_warn("%s", longest);
	log_warn("next");
	line = content(path);
	assert_in_range(strcspn(line, "\n"), 990, 1000);
	assert_string_equal(line + strcspn(line, "\n"), "\nsockshard: next\n");
}

static void errno_is_kept(void **state)
{
	(void)state;
	assert_int_equal(log_setup("warn:/nowhere/at/all"), 0);
	errno = EBUSY;
	log_warn("lost");
	assert_int_equal(errno, EBUSY);
	assert_int_equal(log_setup(NULL), 0);
	errno = 0;
	log_warn("found");
	assert_int_equal(errno, 0);
}

static void a_replaced_descriptor_two_gets_nothing(void **state)
{
	char other[80];
	int fd, keep;

	(void)state;
	assert_int_equal(log_setup(NULL), 0);
	keep = dup(STDERR_FILENO);
	strcpy(other, folder);
	strcat(other, "/client");
	fd = open(other, O_RDWR | O_CREAT, 0600);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	close(fd);
	log_warn("not for you");
	assert_string_equal(content(other), "");
	close(STDERR_FILENO);
	log_warn("nor for nobody");
	assert_int_equal(dup2(keep, STDERR_FILENO), STDERR_FILENO);
	close(keep);
	unlink(other);
	log_warn("back");
	assert_string_equal(content(path), "sockshard: back\n");
}

/* In place of the file; the descriptor is closed. */
static void stderr_becomes(int fd)
{
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	close(fd);
	assert_int_equal(log_setup("debug"), 0);
}

static void a_broken_pipe_kills_nobody(void **state)
{
	int ends[2];
	sigset_t mask, pending;

	(void)state;
	assert_return_code(pipe(ends), errno);
	close(ends[0]);
	stderr_becomes(ends[1]);
	signal(SIGPIPE, SIG_DFL);
	say_all();
	assert_return_code(sigprocmask(SIG_BLOCK, NULL, &mask), errno);
	assert_false(sigismember(&mask, SIGPIPE));
	assert_return_code(sigpending(&pending), errno);
	assert_false(sigismember(&pending, SIGPIPE));
}

static void a_signal_that_waits_for_the_server_still_does(void **state)
{
	int ends[2];
	sigset_t broken, pending;

	(void)state;
	assert_return_code(pipe(ends), errno);
	close(ends[0]);
	stderr_becomes(ends[1]);
	sigemptyset(&broken);
	sigaddset(&broken, SIGPIPE);
	assert_return_code(sigprocmask(SIG_BLOCK, &broken, NULL), errno);
	assert_int_equal(raise(SIGPIPE), 0);
	say_all();
	assert_return_code(sigpending(&pending), errno);
	assert_true(sigismember(&pending, SIGPIPE));
	signal(SIGPIPE, SIG_IGN); /* discards it */
	assert_return_code(sigprocmask(SIG_UNBLOCK, &broken, NULL), errno);
	signal(SIGPIPE, SIG_DFL);
}

static void a_full_pipe_holds_nobody_up(void **state)
{
	int ends[2];

	(void)state;
	assert_return_code(pipe2(ends, O_NONBLOCK), errno);
	while (write(ends[1], text, sizeof(text)) > 0)
		;
	assert_int_equal(errno, EAGAIN);
	assert_return_code(fcntl(ends[1], F_SETFL, 0), errno);
	stderr_becomes(ends[1]);
	alarm(20);
	say_all();
	alarm(0);
	close(ends[0]);
}

static void a_network_socket_gets_nothing(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int listener, server, client;

	(void)state;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	assert_return_code(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), errno);
	assert_return_code(listen(listener, 1), errno);
	assert_return_code(getsockname(listener, (struct sockaddr *)&addr, &len), errno);
	assert_return_code(connect(client, (struct sockaddr *)&addr, sizeof(addr)), errno);
	server = accept(listener, NULL, NULL);
	assert_return_code(server, errno);
	stderr_becomes(server);
	say_all();
	shutdown(STDERR_FILENO, SHUT_WR);
	assert_int_equal(recv(client, text, sizeof(text), 0), 0);
	stderr_becomes(listener); /* inetd's `wait` */
	say_all();
	close(client);
}

static void after_a_stop_nothing_is_written(void **state)
{
	(void)state;
	assert_int_equal(log_setup("debug"), 0);
	log_stop();
	say_all();
	assert_false(log_enabled(LOG_ERROR));
	assert_string_equal(content(path), "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(warnings_and_errors_are_written_by_default),
		TEST(a_level_decides_what_is_written),
		TEST(a_bad_spec_means_warnings_on_standard_error),
		TEST(a_path_is_appended_to_and_private),
		TEST(no_descriptor_stays_open),
		TEST(a_long_line_is_cut),
		TEST(errno_is_kept),
		TEST(a_replaced_descriptor_two_gets_nothing),
		TEST(a_broken_pipe_kills_nobody),
		TEST(a_signal_that_waits_for_the_server_still_does),
		TEST(a_full_pipe_holds_nobody_up),
		TEST(a_network_socket_gets_nothing),
		TEST(after_a_stop_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* cli/check.c, check_dry.c, check_net.c and check_report.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/cli/check_dry.h"
#include "../../shim/cli/check_net.h"
#include "../../shim/cli/check_report.h"
#include "../../shim/cli/cli.h"

#define MASTER	     10
#define EXITED(code) ((code) << 8) /* as wait(2) has it on every system */

static struct addr tcp(uint16_t port)
{
	struct addr a = {.proto = IPPROTO_TCP, .family = AF_INET, .port = port};

	return a;
}

/* A master that has bound port 80 and listens there. */
static struct check_dry *bound(void)
{
	struct check_dry *d = calloc(1, sizeof(*d));
	struct addr a = tcp(80);

	assert_non_null(d);
	snprintf(check_dry_process(d, MASTER)->name, 16, "server");
	check_dry_bind(d, MASTER, 1000, &a);
	check_dry_listens(d, 1000, &a, 0);
	return d;
}

/* A child of the master uses a socket; one that nobody bound is made first. */
static void child(struct check_dry *d, pid_t pid, uint64_t inode, unsigned how)
{
	struct addr a = tcp(80);

	check_dry_process(d, pid)->parent = MASTER;
	check_dry_listens(d, inode, &a, 0);
	check_dry_touch(d, pid, inode, how);
}

static struct check_dry_summary summary(struct check_dry *d)
{
	struct addr a = tcp(80);
	struct check_dry_summary s;

	check_dry_summary(d, &a, &s);
	free(d);
	return s;
}

static void one_process_is_one(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_POLL);
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_ACCEPT);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_ONE);
	assert_int_equal(s.binder, MASTER);
	assert_int_equal(s.n_pids, 1);
	assert_int_equal(s.how, CHECK_DRY_POLL | CHECK_DRY_ACCEPT);
}

static void
a_socket_that_never_listened_is_silent_and_one_without_acceptors_has_nobody(void **state)
{
	struct check_dry *d = calloc(1, sizeof(*d));
	struct addr a = tcp(80);

	(void)state;
	check_dry_bind(d, MASTER, 1000, &a);
	assert_int_equal(summary(d).verdict, CHECK_DRY_SILENT);
	assert_int_equal(summary(bound()).verdict, CHECK_DRY_NOBODY);
}

static void workers_at_one_socket_share_and_at_a_socket_each_they_own(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1000, CHECK_DRY_EPOLL);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_SHARED);
	assert_int_equal(s.n_pids, 2);
	assert_int_equal(s.n_sockets, 1);

	d = bound();
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1001, CHECK_DRY_EPOLL);
	child(d, 13, 1002, CHECK_DRY_EPOLL);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_OWN);
	assert_int_equal(s.n_sockets, 3);

	d = bound();
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1001, CHECK_DRY_EPOLL);
	child(d, 13, 1001, CHECK_DRY_EPOLL);
	assert_int_equal(summary(d).verdict, CHECK_DRY_MIXED);
}

static void sockets_that_the_server_bound_itself_are_several(void **state)
{
	struct check_dry *d = bound();
	struct addr a = tcp(80);

	(void)state;
	check_dry_bind(d, MASTER, 1001, &a);
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1001, CHECK_DRY_EPOLL);
	assert_int_equal(summary(d).verdict, CHECK_DRY_SEVERAL);
}

static void a_parent_that_only_waits_while_its_children_accept_watches(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_EPOLL);
	child(d, 11, 1000, CHECK_DRY_ACCEPT);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_WATCHED);
	assert_int_equal(s.watcher, MASTER);
	assert_int_equal(s.n_pids, 1);

	d = bound();
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_EPOLL | CHECK_DRY_ACCEPT);
	child(d, 11, 1000, CHECK_DRY_ACCEPT);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_SHARED);
	assert_int_equal(s.n_pids, 2);
}

static void processes_made_after_the_first_accept_are_for_clients(void **state)
{
	struct check_dry *d = bound();

	(void)state;
	check_dry_fork(d, MASTER, false); /* before: no matter */
	check_dry_fork(d, MASTER, false);
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_ACCEPT);
	check_dry_fork(d, MASTER, true); /* another program */
	check_dry_fork(d, MASTER, true);
	assert_int_equal(check_dry_named(d, MASTER)->forks, 2);
	assert_int_equal(check_dry_named(d, MASTER)->serving, 0);
	check_dry_fork(d, MASTER, false);
	check_dry_fork(d, MASTER, false);
	assert_int_equal(summary(d).verdict, CHECK_DRY_PER_CLIENT);
}

static void more_than_there_is_room_for_is_said_and_does_no_harm(void **state)
{
	struct check_dry *d = bound();
	struct addr a = tcp(80);
	int i;

	(void)state;
	for (i = 0; i < CHECK_DRY_PROCESSES + 10; i++)
		check_dry_touch(d, 100 + i, 1000, CHECK_DRY_POLL);
	assert_true(d->full);
	d->full = false;
	for (i = 0; i < CHECK_DRY_SOCKETS + 10; i++)
		check_dry_bind(d, MASTER, 2000 + (uint64_t)i, &a);
	assert_true(d->full);
	d->full = false;
	for (i = 0; i < CHECK_DRY_TOUCHES + 10; i++)
		check_dry_touch(d, 100 + i % 500, 2000 + (uint64_t)i / 500, CHECK_DRY_POLL);
	assert_true(d->full);
	free(d);
}

static void a_line_of_proc_net_tcp_is_read_if_it_listens(void **state)
{
	static const char v4[] =
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000"
		"  1000        0 4711 1 0000000000000000 100 0 0 10 0";
	static const char v6[] =
		"   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 "
		"0A "
		"00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000";
	static const char established[] =
		"   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000"
		"  1000        0 4713 1 0000000000000000 100 0 0 10 0";
	char text[ADDR_TEXT_MAX];
	struct addr a;
	uint64_t inode;
	unsigned waiting;

	(void)state;
	if (htonl(1) == 1) {
		print_message("  the words are those of a little-endian machine\n");
		skip();
	}
	assert_true(check_net_line(v4, &a, &inode, &waiting));
	assert_string_equal(addr_format(&a, text, sizeof(text)), "127.0.0.1:8080");
	assert_int_equal(a.proto, IPPROTO_TCP);
	assert_int_equal(inode, 4711);
	assert_int_equal(waiting, 3);
	assert_true(check_net_line(v6, &a, &inode, &waiting));
	assert_string_equal(addr_format(&a, text, sizeof(text)), "[::1]:80");
	assert_int_equal(inode, 4712);
	assert_false(check_net_line(established, &a, &inode, &waiting));
	assert_false(check_net_line("  sl  local_address rem_address   st", &a, &inode, &waiting));
	assert_false(check_net_line("", &a, &inode, &waiting));
}

/* The report of a dry run as text, caller frees; groups of status are made from addrs. */
static char *report(const struct check_dry *d, const char *policy_text, const char *log, size_t n,
		    const uint16_t *ports, struct check_report r, bool *ret_works)
{
	struct status_group groups[4];
	struct status status = {.groups = groups, .n_groups = n};
	struct policy policy;
	struct policy_error error;
	char *text = NULL;
	size_t i, size;
	FILE *to = open_memstream(&text, &size);

	memset(groups, 0, sizeof(groups));
	for (i = 0; i < n; i++)
		groups[i].head.addr = tcp(ports[i]);
	assert_int_equal(policy_parse("-p", policy_text, strlen(policy_text), &policy, &error), 0);
	r.dry = d;
	r.policy = &policy;
	r.status = &status;
	r.log = log;
	*ret_works = check_report(to, &r);
	fclose(to);
	return text;
}

static void expect(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in: %s", part, text);
}

static void a_shared_address_works_and_names_its_rule(void **state)
{
	static const uint16_t ports[] = {80};
	struct check_dry *d = bound();
	bool works;
	char *text;

	(void)state;
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1001, CHECK_DRY_EPOLL);
	text = report(d, "tcp/9;tcp/80", "", 1, ports, (struct check_report){.ran_ms = 1500},
		      &works);
	assert_true(works);
	expect(text, "dry run (1.5 s");
	expect(text, "yes  tcp 0.0.0.0:80, bound by server pid 10: shared by rule 2, balance\n");
	expect(text, "2 processes accept from 2 sockets, by epoll (?: pids 11, 12)\n");
	expect(text, "each gets a queue of its own (SOCKSHARD_WORKERS=own)\n");
	free(text);
	free(d);
}

static void workers_that_bind_an_address_their_master_has_tried_and_closed_listen_there(void **state)
{
	static const uint16_t ports[] = {80};
	struct check_dry *d = calloc(1, sizeof(*d));
	struct addr a = tcp(80);
	bool works;
	char *text;

	(void)state;
	assert_non_null(d);
	snprintf(check_dry_process(d, MASTER)->name, 16, "server");
	check_dry_bind(d, MASTER, 999, &a); /* and closed between two looks */
	for (pid_t pid = 11; pid < 13; pid++) {
		check_dry_bind(d, pid, 1000 + (uint64_t)pid, &a);
		child(d, pid, 1000 + (uint64_t)pid, CHECK_DRY_EPOLL);
	}
	text = report(d, "tcp/80", "", 1, ports, (struct check_report){0}, &works);
	assert_true(works);
	expect(text, "yes  tcp 0.0.0.0:80, bound by server pid 10: shared by rule 1, balance\n");
	expect(text, "2 processes accept from 2 sockets, by epoll (?: pids 11, 12)\n");
	free(text);
	free(d);
}

static void an_address_that_should_be_shared_and_is_not_fails_with_the_librarys_words(void **state)
{
	struct check_dry *d = bound();
	bool works;
	char *text;

	(void)state;
	text = report(d, "tcp/80",
		      "sockshard: fd 3: 0.0.0.0:80: slot 0\nnot ours\n"
		      "sockshard: a reason\nsockshard: a reason\n",
		      0, NULL, (struct check_report){0}, &works);
	assert_false(works);
	expect(text, "no   tcp 0.0.0.0:80, bound by server pid 10: not shared; the library's reason");
	expect(text, "the library: a reason\n");
	assert_null(strstr(strstr(text, "a reason") + 1, "a reason"));
	assert_null(strstr(text, "slot 0"));
	assert_null(strstr(text, "not ours"));
	free(text);
	free(d);
}

/* squid's workers: root's, who executes them as another effective user. */
static void an_address_of_a_process_without_the_library_says_so(void **state)
{
	struct check_dry *d = bound();
	bool works;
	char *text;

	(void)state;
	text = report(d, "tcp/80", "not ours\n", 0, NULL, (struct check_report){0}, &works);
	assert_false(works);
	expect(text, "bound by server pid 10: not shared; the library says nothing: it was not loaded");
	free(text);
	text = report(d, "tcp/80", "sockshard: 0.0.0.0:81: a reason\n", 0, NULL,
		      (struct check_report){0}, &works);
	assert_false(works);
	expect(text, "bound by server pid 10: not shared; what the library said is below\n");
	free(text);
	free(d);
}

static void what_no_rule_covers_is_left_alone_and_no_failure(void **state)
{
	struct check_dry *d = bound();
	bool works;
	char *text;

	(void)state;
	text = report(d, "tcp/81", "", 0, NULL, (struct check_report){0}, &works);
	assert_true(works);
	expect(text, "no rule covers it: left alone");
	free(text);
	text = report(d, "tcp/80=off", "", 0, NULL, (struct check_report){0}, &works);
	assert_true(works);
	expect(text, "its rule says off: left alone");
	free(text);
	d->accepted = true;
	check_dry_bind(d, MASTER, 1000, &d->sockets[0].addr);
	text = report(d, "tcp/*", "", 0, NULL, (struct check_report){0}, &works);
	assert_true(works);
	expect(text, "bound after the first accept");
	free(text);
	free(d);
}

static void an_address_by_offset_works_without_a_group(void **state)
{
	struct check_dry *d = bound();
	bool works;
	char *text;

	(void)state;
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_POLL);
	text = report(d, "tcp/80=offset", "", 0, NULL, (struct check_report){0}, &works);
	assert_true(works);
	expect(text, "not shared by rule 1, offset: slot k gets port 80 + k\n");
	expect(text, "1 process accepts, by poll");
	free(text);
	free(d);
}

static void a_command_that_ends_is_judged_by_its_status_and_whether_it_listened(void **state)
{
	static const uint16_t ports[] = {80};
	struct check_report r = {.ended = true, .ended_ms = 12, .wait_status = EXITED(3)};
	struct check_dry *d = calloc(1, sizeof(*d));
	bool works;
	char *text;

	(void)state;
	text = report(d, "tcp/80", "", 0, NULL, r, &works);
	assert_false(works);
	expect(text, "ended with status 3 after 12 ms, before it listened");
	free(text);
	r.wait_status = 0;
	free(report(d, "tcp/80", "", 0, NULL, r, &works));
	assert_false(works);
	text = report(d, "tcp/80", "", 0, NULL, (struct check_report){0}, &works);
	assert_false(works);
	expect(text, "it did not listen");
	free(text);
	free(d);

	d = bound();
	free(report(d, "tcp/80", "", 1, ports, r, &works));
	assert_true(works);
	r.daemon = true;
	text = report(d, "tcp/80", "", 1, ports, r, &works);
	assert_true(works);
	expect(text, "a daemon");
	free(text);
	r.daemon = false;
	r.wait_status = EXITED(1);
	free(report(d, "tcp/80", "", 1, ports, r, &works));
	assert_false(works);
	free(d);
}

/* cli_check() with its message, which must contain the part. */
static int said(const char *part, char **argv)
{
	char text[600];
	int fds[2], keep = dup(STDERR_FILENO), argc = 0, r;
	ssize_t n;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	dup2(fds[1], STDERR_FILENO);
	while (argv[argc] != NULL)
		argc++;
	r = cli_check(argc, argv);
	dup2(keep, STDERR_FILENO);
	close(keep);
	close(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	assert_true(n > 0);
	text[n] = '\0';
	expect(text, part);
	return r;
}

static void a_dry_run_needs_a_command_and_seconds_within_bounds(void **state)
{
	char check[] = "check", run[] = "--run", seconds[] = "--seconds", zero[] = "0",
	     much[] = "3601", word[] = "5s", five[] = "5", rest[] = "--", command[] = "true";

	(void)state;
	assert_int_equal(said("--run goes with -- and a command", (char *[]){check, run, NULL}),
			 CLI_USAGE);
	assert_int_equal(said("command is missing", (char *[]){check, run, rest, NULL}), CLI_USAGE);
	assert_int_equal(said("--seconds: column 1: found \"0\", allowed: a number 1-3600",
			      (char *[]){check, run, seconds, zero, rest, command, NULL}),
			 CLI_USAGE);
	assert_int_equal(said("3601", (char *[]){check, run, seconds, much, NULL}), CLI_USAGE);
	assert_int_equal(said("5s", (char *[]){check, run, seconds, word, NULL}), CLI_USAGE);
	assert_int_equal(said("--seconds goes with --run",
			      (char *[]){check, seconds, five, rest, command, NULL}),
			 CLI_USAGE);
	assert_int_equal(said("--seconds goes with --", (char *[]){check, seconds, five, NULL}),
			 CLI_USAGE);
}

static void who_stops_waiting_does_not_use_the_socket_any_more(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1000, CHECK_DRY_EPOLL);
	child(d, 13, 1000, CHECK_DRY_EPOLL);
	check_dry_untouch(d, 12, 1000, CHECK_DRY_EPOLL);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_SHARED);
	assert_int_equal(s.n_pids, 2);
	assert_int_equal(s.pids[0], 11);
	assert_int_equal(s.pids[1], 13);
}

static void what_else_it_does_with_the_socket_stays(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	check_dry_touch(d, MASTER, 1000, CHECK_DRY_EPOLL | CHECK_DRY_ACCEPT);
	check_dry_untouch(d, MASTER, 1000, CHECK_DRY_EPOLL);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_ONE);
	assert_int_equal(s.how, CHECK_DRY_ACCEPT);
}

static void only_its_own_touch_of_that_socket_is_taken_back(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	child(d, 11, 1000, CHECK_DRY_EPOLL);
	child(d, 12, 1001, CHECK_DRY_EPOLL);
	check_dry_untouch(d, 11, 1001, CHECK_DRY_EPOLL);
	check_dry_untouch(d, 12, 1000, CHECK_DRY_EPOLL);
	check_dry_untouch(d, 13, 1000, CHECK_DRY_EPOLL); /* has never touched it */
	check_dry_untouch(d, 11, 4711, CHECK_DRY_EPOLL); /* no socket of ours */
	check_dry_untouch(d, 11, 1000, CHECK_DRY_POLL);
	s = summary(d);
	assert_int_equal(s.n_pids, 2);
	assert_int_equal(s.how, CHECK_DRY_EPOLL);
}

static void a_place_that_was_given_up_is_used_again(void **state)
{
	struct check_dry *d = bound();
	struct check_dry_summary s;

	(void)state;
	for (unsigned i = 0; i < 2 * CHECK_DRY_TOUCHES; i++) {
		check_dry_touch(d, MASTER, 1000, CHECK_DRY_EPOLL);
		check_dry_untouch(d, MASTER, 1000, CHECK_DRY_EPOLL);
	}
	assert_false(d->full);
	assert_int_equal(d->n_touches, 0);
	s = summary(d);
	assert_int_equal(s.verdict, CHECK_DRY_NOBODY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_process_is_one),
		cmocka_unit_test(
			a_socket_that_never_listened_is_silent_and_one_without_acceptors_has_nobody),
		cmocka_unit_test(workers_at_one_socket_share_and_at_a_socket_each_they_own),
		cmocka_unit_test(sockets_that_the_server_bound_itself_are_several),
		cmocka_unit_test(a_parent_that_only_waits_while_its_children_accept_watches),
		cmocka_unit_test(processes_made_after_the_first_accept_are_for_clients),
		cmocka_unit_test(more_than_there_is_room_for_is_said_and_does_no_harm),
		cmocka_unit_test(a_line_of_proc_net_tcp_is_read_if_it_listens),
		cmocka_unit_test(a_shared_address_works_and_names_its_rule),
		cmocka_unit_test(
			workers_that_bind_an_address_their_master_has_tried_and_closed_listen_there),
		cmocka_unit_test(
			an_address_that_should_be_shared_and_is_not_fails_with_the_librarys_words),
		cmocka_unit_test(an_address_of_a_process_without_the_library_says_so),
		cmocka_unit_test(what_no_rule_covers_is_left_alone_and_no_failure),
		cmocka_unit_test(an_address_by_offset_works_without_a_group),
		cmocka_unit_test(
			a_command_that_ends_is_judged_by_its_status_and_whether_it_listened),
		cmocka_unit_test(a_dry_run_needs_a_command_and_seconds_within_bounds),
		cmocka_unit_test(who_stops_waiting_does_not_use_the_socket_any_more),
		cmocka_unit_test(what_else_it_does_with_the_socket_stays),
		cmocka_unit_test(only_its_own_touch_of_that_socket_is_taken_back),
		cmocka_unit_test(a_place_that_was_given_up_is_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

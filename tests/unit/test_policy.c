/* policy/: the language, its messages and files. Run from the top of the source tree: the lists of
 * refused policies are read from tests/unit/. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy_fixture.h"

#define BOTH (POLICY_TCP | POLICY_UDP)

static void a_bare_port_is_tcp_any_address_balance_flow(void **state)
{
	struct policy_rule r = rule_of("8080");
	static const uint8_t none[16];

	(void)state;
	assert_int_equal(r.protos, POLICY_TCP);
	assert_int_equal(r.family, AF_UNSPEC);
	assert_int_equal(r.prefix, 0);
	assert_int_equal(r.mode, POLICY_BALANCE);
	assert_int_equal(r.key, POLICY_KEY_FLOW);
	assert_false(r.any_port);
	assert_int_equal(r.port_first, 8080);
	assert_int_equal(r.port_last, 8080);
	assert_memory_equal(r.ip, none, sizeof(none));
	assert_int_equal(r.hold_ms, -1);
	assert_int_equal(r.stuck_ms, -1);
	assert_int_equal(r.column, 1);
	assert_int_equal(r.line, 0);
}

static void a_written_target_is_read_as_the_same_rule(void **state)
{
	static const char *const targets[] = {
		"tcp/80",		"udp/53-60",  "*/443",		  "tcp/*:*",
		"tcp/10.0.0.0/8:80-90", "udp/*:*",    "tcp/[::1]:443",	  "*/[2001:db8::]/32:*",
		"tcp/127.0.0.1:*",	"*/0.0.0.0:1", "tcp/[::]:65535",
	};
	char text[100], cut[8];

	(void)state;
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct policy_rule r = rule_of(targets[i]), again;

		assert_string_equal(policy_written(&r, text, sizeof(text)), targets[i]);
		again = rule_of(text);
		assert_memory_equal(&r, &again, sizeof(r));
	}
	struct policy_rule r = rule_of("10.0.0.0/8:80");
	assert_string_equal(policy_written(&r, cut, sizeof(cut)), "tcp/10.");
}

static void every_form_of_target_is_read(void **state)
{
	static const struct {
		const char *text;
		unsigned protos, family, prefix;
		const char *ip;
		bool any_port;
		unsigned first, last;
	} rows[] = {
		{"80", POLICY_TCP, AF_UNSPEC, 0, "::", false, 80, 80},
		{"1-65535", POLICY_TCP, AF_UNSPEC, 0, "::", false, 1, 65535},
		{"80-80", POLICY_TCP, AF_UNSPEC, 0, "::", false, 80, 80},
		{"*", POLICY_TCP, AF_UNSPEC, 0, "::", true, 1, 65535},
		{"*:80", POLICY_TCP, AF_UNSPEC, 0, "::", false, 80, 80},
		{"*/80", BOTH, AF_UNSPEC, 0, "::", false, 80, 80},
		{"*/*", BOTH, AF_UNSPEC, 0, "::", true, 1, 65535},
		{"*/*:9100", BOTH, AF_UNSPEC, 0, "::", false, 9100, 9100},
		{POLICY_DEFAULT, POLICY_TCP, AF_UNSPEC, 0, "::", true, 1, 65535},
		{"udp/53", POLICY_UDP, AF_UNSPEC, 0, "::", false, 53, 53},
		{"udp/*:53-54", POLICY_UDP, AF_UNSPEC, 0, "::", false, 53, 54},
		{"127.0.0.1:80", POLICY_TCP, AF_INET, 32, "127.0.0.1", false, 80, 80},
		{"0.0.0.0:80", POLICY_TCP, AF_INET, 32, "0.0.0.0", false, 80, 80},
		{"0.0.0.0/0:80", POLICY_TCP, AF_INET, 0, "0.0.0.0", false, 80, 80},
		{"10.0.0.0/8:*", POLICY_TCP, AF_INET, 8, "10.0.0.0", true, 1, 65535},
		{"udp/10.1.2.128/25:1-2", POLICY_UDP, AF_INET, 25, "10.1.2.128", false, 1, 2},
		{"*/10.0.0.1/32:80", BOTH, AF_INET, 32, "10.0.0.1", false, 80, 80},
		{"[::1]:80", POLICY_TCP, AF_INET6, 128, "::1", false, 80, 80},
		{"[::]:80", POLICY_TCP, AF_INET6, 128, "::", false, 80, 80},
		{"tcp/[::]/0:80", POLICY_TCP, AF_INET6, 0, "::", false, 80, 80},
		{"udp/[2001:db8::]/33:*", POLICY_UDP, AF_INET6, 33, "2001:db8::", true, 1, 65535},
		{"[fe80::1]/128:7-9", POLICY_TCP, AF_INET6, 128, "fe80::1", false, 7, 9},
		{"[::ffff:1.2.3.4]:80", POLICY_TCP, AF_INET, 32, "1.2.3.4", false, 80, 80},
		{"[::ffff:10.0.0.0]/104:80", POLICY_TCP, AF_INET, 8, "10.0.0.0", false, 80, 80},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct policy_rule r = rule_of(rows[i].text);
		uint8_t ip[16] = {0};

		assert_int_equal(
			inet_pton(strchr(rows[i].ip, ':') ? AF_INET6 : AF_INET, rows[i].ip, ip), 1);
		assert_int_equal(r.protos, rows[i].protos);
		assert_int_equal(r.family, rows[i].family);
		assert_int_equal(r.prefix, rows[i].prefix);
		assert_memory_equal(r.ip, ip, sizeof(ip));
		assert_int_equal(r.any_port, rows[i].any_port);
		assert_int_equal(r.port_first, rows[i].first);
		assert_int_equal(r.port_last, rows[i].last);
		assert_int_equal(r.mode, POLICY_BALANCE);
	}
}

static void every_mode_and_key_is_read_and_named(void **state)
{
	static const char *const modes[] = {"balance", "shared", "handover", "offset", "off"};
	static const char *const keys[] = {"flow", "src", "cpu", "random"};
	char text[64];

	(void)state;
	for (unsigned m = POLICY_BALANCE; m <= POLICY_OFF; m++) {
		snprintf(text, sizeof(text), "80=%s", modes[m]);
		assert_int_equal(rule_of(text).mode, m);
		assert_string_equal(policy_mode_name(m), modes[m]);
	}
	for (unsigned k = POLICY_KEY_FLOW; k <= POLICY_KEY_RANDOM; k++) {
		snprintf(text, sizeof(text), "80,key=%s", keys[k]);
		assert_int_equal(rule_of(text).key, k);
		assert_string_equal(policy_key_name(k), keys[k]);
	}
}

static void options_follow_with_or_without_a_mode(void **state)
{
	struct policy_rule r = rule_of("80=shared,stuck=250,key=cpu,hold=60");

	(void)state;
	assert_int_equal(r.mode, POLICY_SHARED);
	assert_int_equal(r.key, POLICY_KEY_CPU);
	assert_int_equal(r.hold_ms, 60000);
	assert_int_equal(r.stuck_ms, 250);
	r = rule_of("[::1]:80,key=src,stuck=0");
	assert_int_equal(r.mode, POLICY_BALANCE);
	assert_int_equal(r.key, POLICY_KEY_SRC);
	assert_int_equal(r.hold_ms, -1);
	assert_int_equal(r.stuck_ms, 0);
	assert_int_equal(rule_of("80,stuck=3600000").stuck_ms, 3600000);
}

static void hold_takes_seconds_with_up_to_three_decimals(void **state)
{
	(void)state;
	assert_int_equal(rule_of("80,hold=0").hold_ms, 0);
	assert_int_equal(rule_of("80,hold=0.5").hold_ms, 500);
	assert_int_equal(rule_of("80,hold=0.05").hold_ms, 50);
	assert_int_equal(rule_of("80,hold=1.005").hold_ms, 1005);
	assert_int_equal(rule_of("80,hold=10").hold_ms, 10000);
	assert_int_equal(rule_of("80,hold=86400").hold_ms, 86400000);
	assert_int_equal(rule_of("80,hold=86400.000").hold_ms, 86400000);
}

static void rules_are_separated_and_empty_ones_passed_over(void **state)
{
	struct policy p = parsed("tcp/*:80;tcp/*:443=balance,key=src;udp/*:53;*/*:9100=offset");

	(void)state;
	assert_int_equal(p.n, 4);
	assert_int_equal(p.rules[1].port_first, 443);
	assert_int_equal(p.rules[1].key, POLICY_KEY_SRC);
	assert_int_equal(p.rules[1].column, 10);
	assert_int_equal(p.rules[2].protos, POLICY_UDP);
	assert_int_equal(p.rules[3].mode, POLICY_OFFSET);
	assert_int_equal(p.rules[3].line, 0);
	p = parsed(";;80;\n\n;81=off;82;\n");
	assert_int_equal(p.n, 3);
	assert_int_equal(p.rules[0].line, 1);
	assert_int_equal(p.rules[0].column, 3);
	assert_int_equal(p.rules[2].line, 3);
	assert_int_equal(p.rules[2].column, 9);
	p = parsed("80\n"); /* a file of one line */
	assert_int_equal(p.n, 1);
	assert_int_equal(p.rules[0].line, 0);
}

static void as_many_rules_as_promised_fit(void **state)
{
	char text[POLICY_RULES_MAX * 5 + 1];

	(void)state;
	for (int i = 0; i < POLICY_RULES_MAX; i++)
		snprintf(text + i * 5, 6, "%d;", 8000 + i);
	assert_int_equal(parsed(text).n, POLICY_RULES_MAX);
}

static void nothing_is_written_on_failure(void **state)
{
	struct policy p;
	struct policy before;
	struct policy_error e;

	(void)state;
	memset(&p, 0x5a, sizeof(p));
	before = p;
	assert_int_equal(policy_parse("-p", "80;81;x", 7, &p, &e), -EINVAL);
	assert_memory_equal(&p, &before, sizeof(p));
}

static void bytes_behind_the_length_do_not_count(void **state)
{
	struct policy p;
	struct policy_error e;

	(void)state;
	assert_int_equal(policy_parse("-p", "8080=off", 4, &p, &e), 0);
	assert_int_equal(p.rules[0].port_first, 8080);
	assert_int_equal(p.rules[0].mode, POLICY_BALANCE);
	assert_int_equal(policy_parse("-p", "80\0", 3, &p, &e), -EINVAL);
	assert_string_equal(e.text, "-p: column 1: found \"80\\x00\", "
				    "allowed: a port 1-65535, a range or *");
	assert_int_equal(policy_parse("-p", "[::1\0]:8", 8, &p, &e), -EINVAL);
	assert_string_equal(e.text, "-p: column 2: found \"::1\\x00\", allowed: an IPv6 address");
	assert_int_equal(policy_parse("-p", "1.2.3.4\0:8", 10, &p, &e), -EINVAL);
	assert_int_equal(policy_parse("-p", "", 0, &p, &e), -EINVAL);
	assert_string_equal(e.text, "-p: column 1: found the end, allowed: at least one rule");
}

static void a_text_over_the_limit_is_refused(void **state)
{
	static char text[POLICY_TEXT_MAX + 1];
	struct policy p;
	struct policy_error e;

	(void)state;
	memset(text, ';', sizeof(text));
	memcpy(text, "8080", 4);
	assert_int_equal(policy_parse("-p", text, POLICY_TEXT_MAX, &p, &e), 0);
	assert_int_equal(policy_parse("-p", text, POLICY_TEXT_MAX + 1, &p, &e), -EINVAL);
	assert_string_equal(e.text, "-p: column 16385: found \";\", allowed: at most 16384 bytes");
}

static void errors_stay_one_line_whatever_the_source_is_called(void **state)
{
	char source[4096];
	struct policy p;
	struct policy_error e;

	(void)state;
	assert_int_equal(policy_parse("a\nb\"", "x", 1, &p, &e), -EINVAL);
	assert_string_equal(e.text, "a\\x0ab\\x22: column 1: found \"x\", "
				    "allowed: a port 1-65535, a range or *");
	memset(source, 's', sizeof(source));
	strcpy(source + sizeof(source) - 10, "/web.conf");
	assert_int_equal(policy_parse(source, "[2001:db8::1]/32:80", 19, &p, &e), -EINVAL);
	assert_memory_equal(e.text, "...sss", 6);
	assert_non_null(strstr(e.text, "s/web.conf: column 1: found "));
	assert_non_null(strstr(e.text, "allowed: [2001:db8::]/32, no bits beyond the prefix"));
	memset(source, '\n', sizeof(source) - 1);
	assert_int_equal(policy_parse(source, "x", 1, &p, &e), -EINVAL);
	assert_null(strchr(e.text, '\n'));
	assert_non_null(strstr(e.text, ": column 1: found \"x\", allowed: a port"));
}

/* The escapes of the lists: \n \t \r \\ */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (*s != '\\') {
			*to++ = *s;
			continue;
		}
		s++;
		*to++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s == 'r' ? '\r' : *s;
	}
	*to = '\0';
}

/* Reads lines of POLICY<TAB>MESSAGE and compares; returns how many. */
static int compare_list(const char *path, int (*judge)(const char *, struct policy_error *))
{
	char line[1024];
	char want[1024];
	int n = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		struct policy_error e = {""};
		char *message = strchr(line, '\t');

		assert_non_null(message);
		*message++ = '\0';
		message[strcspn(message, "\n")] = '\0';
		assert_memory_equal(message, "@SOURCE@", 8);
		snprintf(want, sizeof(want), "SOCKSHARD_POLICY%s", message + 8);
		unescape(line);
		assert_true(judge(line, &e) < 0);
		assert_string_equal(e.text, want);
		n++;
	}
	fclose(f);
	return n;
}

static int judge_text(const char *text, struct policy_error *e)
{
	struct policy p;

	return policy_load("SOCKSHARD_POLICY", text, &p, e);
}

static void bad_policies_get_their_exact_message(void **state)
{
	(void)state;
	assert_true(compare_list("tests/unit/bad_policies.txt", judge_text) >= 45);
}

/* A file of n bytes, as @PATH; the caller unlinks path + 1. */
static void write_file(char *path, size_t size, const char *text, size_t n)
{
	int fd;

	snprintf(path, size, "@/tmp/sockshard-policy-XXXXXX");
	fd = mkstemp(path + 1);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	close(fd);
}

static void a_file_is_read_and_named_in_errors(void **state)
{
	static char big[POLICY_TEXT_MAX + 1];
	char path[64];
	char want[256];
	struct policy p;
	struct policy_error e;

	(void)state;
	write_file(path, sizeof(path), "tcp/*:80\nudp/*:53\n", 18);
	assert_int_equal(policy_load("-p", path, &p, &e), 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.rules[1].line, 2);
	unlink(path + 1);

	write_file(path, sizeof(path), "tcp/*:80\nudp/*:5x\n", 18);
	assert_int_equal(policy_load("-p", path, &p, &e), -EINVAL);
	snprintf(want, sizeof(want),
		 "%s: line 2 column 7: found \"5x\", allowed: "
		 "a port 1-65535, a range or *",
		 path + 1);
	assert_string_equal(e.text, want);
	unlink(path + 1);

	memset(big, ';', sizeof(big));
	write_file(path, sizeof(path), big, sizeof(big));
	assert_int_equal(policy_load("-p", path, &p, &e), -E2BIG);
	snprintf(want, sizeof(want), "-p: %s: longer than 16384 bytes", path + 1);
	assert_string_equal(e.text, want);
	unlink(path + 1);

	assert_int_equal(policy_load("-p", path, &p, &e), -ENOENT);
	snprintf(want, sizeof(want), "-p: %s: No such file or directory", path + 1);
	assert_string_equal(e.text, want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bare_port_is_tcp_any_address_balance_flow),
		cmocka_unit_test(a_written_target_is_read_as_the_same_rule),
		cmocka_unit_test(every_form_of_target_is_read),
		cmocka_unit_test(every_mode_and_key_is_read_and_named),
		cmocka_unit_test(options_follow_with_or_without_a_mode),
		cmocka_unit_test(hold_takes_seconds_with_up_to_three_decimals),
		cmocka_unit_test(rules_are_separated_and_empty_ones_passed_over),
		cmocka_unit_test(as_many_rules_as_promised_fit),
		cmocka_unit_test(nothing_is_written_on_failure),
		cmocka_unit_test(bytes_behind_the_length_do_not_count),
		cmocka_unit_test(a_text_over_the_limit_is_refused),
		cmocka_unit_test(errors_stay_one_line_whatever_the_source_is_called),
		cmocka_unit_test(bad_policies_get_their_exact_message),
		cmocka_unit_test(a_file_is_read_and_named_in_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

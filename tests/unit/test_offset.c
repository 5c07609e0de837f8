/* policy/offset.c: which ports the slots of mode offset get, and what is in their way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "policy_fixture.h"

static void refused(const char *text, unsigned first, unsigned n, const char *message)
{
	struct policy p = parsed(text);
	struct policy_error e = {""};

	assert_int_equal(policy_offset_check("-p", &p, first, n, &e), -EINVAL);
	assert_string_equal(e.text, message);
	assert_int_equal(policy_offset_check("-p", &p, 0, 1, &e), 0); /* slot 0 is never moved */
}

static void taken(const char *text, unsigned first, unsigned n)
{
	struct policy p = parsed(text);
	struct policy_error e = {"untouched"};

	if (policy_offset_check("-p", &p, first, n, &e) < 0)
		fail_msg("%s: %s", text, e.text);
	assert_string_equal(e.text, "untouched");
}

static void a_port_past_the_last_is_refused_with_port_and_slot(void **state)
{
	(void)state;
	taken("65534=offset", 0, 2);
	refused("65534=offset", 0, 4,
		"-p: column 1: port 65534 + slot 2, offset, is 65536, past 65535");
	refused("80;60000-65535=offset", 0, 2,
		"-p: column 4: port 65535 + slot 1, offset, is 65536, past 65535");
	refused("65000=offset", 500, 100,
		"-p: column 1: port 65000 + slot 536, offset, is 65536, past 65535");
}

static void a_port_of_another_rule_is_refused_with_both(void **state)
{
	(void)state;
	taken("9100=offset;9102", 0, 2);
	refused("9100=offset;9102", 0, 3,
		"-p: column 1: port 9100 + slot 2, offset, is 9102, a port of the rule at column 13 "
		"(tcp, any address, port 9102)");
	refused("8000-8999\n*/*:7998=offset", 0, 4,
		"-p: line 2 column 1: port 7998 + slot 2, offset, is 8000, a port of the rule at line "
		"1 column 1 (tcp, any address, ports 8000-8999)");
	refused("9102=handover;9100=offset", 2, 1,
		"-p: column 15: port 9100 + slot 2, offset, is 9102, a port of the rule at column 1 "
		"(tcp, any address, port 9102)");
}

static void two_rules_with_offset_must_not_meet(void **state)
{
	(void)state;
	taken("9100=offset;9104=offset", 0, 4);
	taken("9100=offset;9104=offset", 8, 4);
	refused("9100=offset;9104=offset", 0, 5,
		"-p: column 1: port 9100 + slot 4, offset, is 9104, and so is 9104 + slot 0 of the rule "
		"at column 13 (tcp, any address, port 9104)");
	refused("9104=offset;9100=offset", 8, 5,
		"-p: column 13: port 9100 + slot 12, offset, is 9112, and so is 9104 + slot 8 of the "
		"rule at column 1 (tcp, any address, port 9104)");
}

static void what_cannot_meet_is_not_refused(void **state)
{
	static const char *const texts[] = {
		"9100=offset;udp/9101",                   /* another protocol */
		"9100=offset;9101=off",                   /* no port of a rule that acts */
		"9100=offset;tcp/*:*",                    /* whatever else the server binds */
		"*=offset;9101",                          /* known when it binds */
		"127.0.0.1:9100=offset;127.0.0.2:9101",   /* another address */
		"127.0.0.1:9100=offset;[::1]:9101",
		"10.0.0.0/9:9100=offset;10.128.0.0/9:9101",
		"9100-9199=offset;9100-9150=balance",     /* never reached: the first match wins */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		taken(texts[i], 0, 4);
}

static void addresses_that_overlap_are_compared_by_the_shorter_prefix(void **state)
{
	(void)state;
	refused("10.0.0.0/9:9100=offset;10.64.0.1:9101", 0, 2,
		"-p: column 1: port 9100 + slot 1, offset, is 9101, a port of the rule at column 24 "
		"(tcp, address 10.64.0.1, port 9101)");
	refused("9100=offset;[::1]:9101", 0, 2,
		"-p: column 1: port 9100 + slot 1, offset, is 9101, a port of the rule at column 13 "
		"(tcp, address ::1, port 9101)");
}

static void what_a_rule_in_front_takes_is_not_the_later_ones(void **state)
{
	(void)state;
	refused("9100-9102=offset;9101-9200", 0, 4,
		"-p: column 1: port 9102 + slot 1, offset, is 9103, a port of the rule at column 18 "
		"(tcp, any address, ports 9101-9200)");
}

static void the_room_is_told_with_what_ends_it(void **state)
{
	struct policy p = parsed("9100=offset;9102;udp/53=offset;udp/60000=offset");
	char why[256] = "untouched";

	(void)state;
	assert_int_equal(policy_offset_room(&p, 2, why, sizeof(why)), POLICY_SLOTS_MAX);
	assert_string_equal(why, "untouched");
	assert_int_equal(policy_offset_room(&p, 0, why, sizeof(why)), 2);
	assert_non_null(strstr(why, "port 9100 + slot 2, offset, is 9102, a port of"));
	p = parsed("65535=offset");
	assert_int_equal(policy_offset_room(&p, 0, why, sizeof(why)), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_port_past_the_last_is_refused_with_port_and_slot),
		cmocka_unit_test(a_port_of_another_rule_is_refused_with_both),
		cmocka_unit_test(two_rules_with_offset_must_not_meet),
		cmocka_unit_test(what_cannot_meet_is_not_refused),
		cmocka_unit_test(addresses_that_overlap_are_compared_by_the_shorter_prefix),
		cmocka_unit_test(what_a_rule_in_front_takes_is_not_the_later_ones),
		cmocka_unit_test(the_room_is_told_with_what_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

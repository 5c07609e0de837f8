/* policy/match.c and describe.c: which rule an address meets, and a rule in words. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "policy_fixture.h"

/* The number of the rule that an address meets, -1 for none; mapped and v6 addresses by a colon. */
static int met(const char *policy, uint8_t proto, const char *ip, uint16_t port)
{
	struct policy p = parsed(policy);
	struct addr a = {.proto = proto, .port = port};
	const struct policy_rule *r;

	a.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(a.family, ip, a.ip), 1);
	r = policy_match(&p, &a);
	return r ? (int)(r - p.rules) : -1;
}

static bool tcp_meets(const char *policy, const char *ip, uint16_t port)
{
	return met(policy, IPPROTO_TCP, ip, port) == 0;
}

static void the_first_matching_rule_wins(void **state)
{
	static const char policy[] = "127.0.0.1:80=off;80;udp/53;*/1-1000=shared;[::]/0:*";

	(void)state;
	assert_int_equal(met(policy, IPPROTO_TCP, "127.0.0.1", 80), 0);
	assert_int_equal(met(policy, IPPROTO_TCP, "127.0.0.2", 80), 1);
	assert_int_equal(met(policy, IPPROTO_TCP, "::1", 80), 1);
	assert_int_equal(met(policy, IPPROTO_UDP, "::1", 53), 2);
	assert_int_equal(met(policy, IPPROTO_TCP, "::1", 53), 3);
	assert_int_equal(met(policy, IPPROTO_UDP, "127.0.0.1", 80), 3);
	assert_int_equal(met(policy, IPPROTO_TCP, "::1", 1001), 4);
	assert_int_equal(met(policy, IPPROTO_TCP, "127.0.0.1", 1001), -1);
	assert_int_equal(met(policy, IPPROTO_UDP, "::1", 1001), -1);
	assert_int_equal(met("*/*", IPPROTO_SCTP, "127.0.0.1", 80), -1);
}

static void ports_match_inside_their_range_only(void **state)
{
	(void)state;
	assert_true(tcp_meets("80", "0.0.0.0", 80));
	assert_false(tcp_meets("80", "0.0.0.0", 79));
	assert_false(tcp_meets("80", "0.0.0.0", 81));
	assert_true(tcp_meets("80-90", "::", 80));
	assert_true(tcp_meets("80-90", "::", 90));
	assert_false(tcp_meets("80-90", "::", 79));
	assert_false(tcp_meets("80-90", "::", 91));
	assert_true(tcp_meets("*", "::", 65535));
	assert_true(tcp_meets("*", "::", 1));
	assert_false(tcp_meets("*", "::", 0)); /* port 0 is never touched */
}

static void addresses_match_by_family_and_prefix(void **state)
{
	(void)state;
	assert_true(tcp_meets("10.0.0.1:80", "10.0.0.1", 80));
	assert_false(tcp_meets("10.0.0.1:80", "10.0.0.2", 80));
	assert_true(tcp_meets("10.16.0.0/12:80", "10.31.255.255", 80));
	assert_false(tcp_meets("10.16.0.0/12:80", "10.32.0.0", 80));
	assert_false(tcp_meets("10.16.0.0/12:80", "11.16.0.0", 80));
	assert_true(tcp_meets("0.0.0.0:80", "0.0.0.0", 80));
	assert_false(tcp_meets("0.0.0.0:80", "127.0.0.1", 80)); /* the wildcard itself */
	assert_false(tcp_meets("0.0.0.0:80", "::", 80));
	assert_true(tcp_meets("0.0.0.0/0:80", "127.0.0.1", 80));
	assert_false(tcp_meets("0.0.0.0/0:80", "::1", 80));
	assert_true(tcp_meets("[::]:80", "::", 80));
	assert_false(tcp_meets("[::]:80", "::1", 80));
	assert_true(tcp_meets("[::]/0:80", "::1", 80));
	assert_false(tcp_meets("[::]/0:80", "0.0.0.0", 80));
	assert_true(tcp_meets("[2001:db8::]/33:80", "2001:db8:7fff::1", 80));
	assert_false(tcp_meets("[2001:db8::]/33:80", "2001:db8:8000::1", 80));
	assert_true(tcp_meets("[fe80::2]/127:80", "fe80::3", 80));
	assert_false(tcp_meets("[fe80::2]/127:80", "fe80::4", 80));
	assert_false(tcp_meets("[::102:304]:80", "1.2.3.4", 80));
}

static void a_mapped_address_meets_ipv4_rules(void **state)
{
	(void)state;
	assert_true(tcp_meets("1.2.3.4:80", "::ffff:1.2.3.4", 80));
	assert_true(tcp_meets("1.2.0.0/16:80", "::ffff:1.2.3.4", 80));
	assert_false(tcp_meets("1.2.3.5:80", "::ffff:1.2.3.4", 80));
	assert_false(tcp_meets("[::]/0:80", "::ffff:1.2.3.4", 80));
	assert_true(tcp_meets("*:80", "::ffff:1.2.3.4", 80));
	assert_true(tcp_meets("[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80));
	assert_true(tcp_meets("[::ffff:1.2.3.4]:80", "1.2.3.4", 80));
}

static void rules_are_told_in_words(void **state)
{
	static const struct {
		const char *rule;
		const char *words;
	} rows[] = {
		{"8080", "tcp, any address, port 8080: balance, one queue per shard; key=flow; "
			 "an orphan's queue is held 10 s"},
		{"*/127.0.0.1:1-9,key=src,hold=0.05,stuck=0",
		 "tcp and udp, address 127.0.0.1, ports 1-9: balance, one queue per shard; "
		 "key=src; "
		 "an orphan's queue is held 0.05 s; no shard counts as stuck"},
		{"udp/[2001:db8::]/32:*=handover,hold=0",
		 "udp, addresses 2001:db8::/32, any port bound before the first accept: handover, "
		 "the newest shard gets all new connections; an orphan's queue is not held"},
		{"10.0.0.0/8:80=shared,hold=1.5,stuck=250",
		 "tcp, addresses 10.0.0.0/8, port 80: shared, one queue for all shards; "
		 "an orphan's queue is held 1.5 s; a shard counts as stuck after 250 ms"},
		{"*/*:9100=offset", "tcp and udp, any address, port 9100: offset, not shared, "
				    "slot k gets port + k"},
		{"[::]:22=off", "tcp, address ::, port 22: off, left alone"},
	};
	char buf[256];
	char tiny[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct policy_rule r = rule_of(rows[i].rule);

		assert_ptr_equal(policy_describe(&r, buf, sizeof(buf)), buf);
		assert_string_equal(buf, rows[i].words);
	}
	struct policy_rule r = rule_of("8080");
	memset(tiny, 'x', sizeof(tiny));
	assert_string_equal(policy_describe(&r, tiny, 8), "tcp, an");
	for (size_t i = 8; i < sizeof(tiny); i++)
		assert_int_equal(tiny[i], 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_matching_rule_wins),
		cmocka_unit_test(ports_match_inside_their_range_only),
		cmocka_unit_test(addresses_match_by_family_and_prefix),
		cmocka_unit_test(a_mapped_address_meets_ipv4_rules),
		cmocka_unit_test(rules_are_told_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

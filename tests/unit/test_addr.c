/* util/addr.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "../../shim/util/addr.h"

/* An address as the tests write it: "10.0.0.1" or "::1", always port 80 tcp unless changed. */
static struct addr make(const char *ip)
{
	struct addr a = {.proto = IPPROTO_TCP, .port = 80};

	a.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(a.family, ip, a.ip), 1);
	return a;
}

static struct addr make_v6only(const char *ip)
{
	struct addr a = make(ip);

	a.v6only = 1;
	return a;
}

static struct addr make_on(const char *ip, uint32_t ifindex)
{
	struct addr a = make(ip);

	a.ifindex = ifindex;
	return a;
}

static bool overlaps(struct addr a, struct addr b)
{
	bool r = addr_overlaps(&a, &b);

	assert_int_equal(r, addr_overlaps(&b, &a)); /* whoever came first */
	return r;
}

static bool ips_overlap(const char *a, const char *b)
{
	return overlaps(make(a), make(b));
}

static void an_ipv4_socket_address_is_taken_apart(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(8080)};
	struct addr a;

	(void)state;
	memset(&a, 0xee, sizeof(a));
	memset(in.sin_zero, 0xee, sizeof(in.sin_zero)); /* servers leave rubbish there */
	in.sin_addr.s_addr = htonl(0x0a000102);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in, sizeof(in), &a), 0);
	struct addr want = make("10.0.1.2");
	want.proto = 0;
	want.port = 8080;
	assert_memory_equal(&a, &want, sizeof(a));
}

static void an_ipv6_socket_address_is_taken_apart(void **state)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
	struct addr a;

	(void)state;
	memset(&a, 0xee, sizeof(a));
	in6.sin6_flowinfo = 0xeeeeeeee;
	in6.sin6_scope_id = 7;
	inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in6, sizeof(in6), &a), 0);
	struct addr want = make("2001:db8::1");
	want.proto = 0;
	want.port = 443;
	assert_memory_equal(&a, &want, sizeof(a));
	/* the shorter form that Linux takes, see SIN6_LEN_RFC2133 */
	memset(&a, 0xee, sizeof(a));
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in6, 24, &a), 0);
	assert_memory_equal(&a, &want, sizeof(a));
}

static void an_unaligned_socket_address_is_read(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
	char buf[sizeof(in) + 1];
	struct addr a;

	(void)state;
	memcpy(buf + 1, &in, sizeof(in));
	assert_int_equal(addr_from_sockaddr((const struct sockaddr *)(const void *)(buf + 1),
					    sizeof(in), &a),
			 0);
	assert_int_equal(a.port, 80);
}

static void short_and_foreign_socket_addresses_are_refused(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in none = {.sin_family = AF_UNSPEC};
	struct addr a = make("1.2.3.4");
	struct addr before = a;

	(void)state;
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in, 0, &a), -EINVAL);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in, 1, &a), -EINVAL);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in, 15, &a), -EINVAL);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in6, 23, &a), -EINVAL);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&un, sizeof(un), &a), -EAFNOSUPPORT);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&none, sizeof(none), &a),
			 -EAFNOSUPPORT);
	assert_memory_equal(&a, &before, sizeof(a));
}

static void socket_addresses_make_the_round_trip(void **state)
{
	static const char *const ips[] = {"0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:1.2.3.4"};

	(void)state;
	for (size_t i = 0; i < sizeof(ips) / sizeof(ips[0]); i++) {
		struct addr a = make(ips[i]);
		struct addr back;
		struct sockaddr_storage ss;
		socklen_t len;

		a.port = 40001;
		memset(&ss, 0xee, sizeof(ss));
		len = addr_to_sockaddr(&a, &ss);
		assert_int_equal(len, a.family == AF_INET ? sizeof(struct sockaddr_in)
							  : sizeof(struct sockaddr_in6));
		assert_int_equal(ss.ss_family, a.family);
		if (a.family == AF_INET6)
			assert_int_equal(((struct sockaddr_in6 *)&ss)->sin6_scope_id, 0);
		assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, len, &back), 0);
		back.proto = a.proto;
		assert_true(addr_equal(&a, &back));
	}
}

static void equal_means_every_field(void **state)
{
	struct addr a = make("::1");
	struct addr b = a;

	(void)state;
	assert_true(addr_equal(&a, &b));
	b.proto = IPPROTO_UDP;
	assert_false(addr_equal(&a, &b));
	b = a;
	b.v6only = 1;
	assert_false(addr_equal(&a, &b));
	b = a;
	b.port = 81;
	assert_false(addr_equal(&a, &b));
	b = a;
	b.ifindex = 2;
	assert_false(addr_equal(&a, &b));
	b = a;
	b.ip[15] = 2;
	assert_false(addr_equal(&a, &b));
	a = make("0.0.0.0");
	b = make("::");
	assert_false(addr_equal(&a, &b));
	b = make("::ffff:0.0.0.0"); /* overlaps, but the kernel never puts them into one group */
	assert_false(addr_equal(&a, &b));
}

static void wildcard_and_multicast_are_known_in_each_family(void **state)
{
	static const struct {
		const char *ip;
		bool wildcard;
		bool multicast;
	} rows[] = {
		{"0.0.0.0", true, false},
		{"::", true, false},
		{"::ffff:0.0.0.0", true, false},
		{"0.0.0.1", false, false},
		{"::1", false, false},
		{"::ffff:0.0.0.1", false, false},
		{"223.255.255.255", false, false},
		{"224.0.0.0", false, true},
		{"239.255.255.255", false, true},
		{"240.0.0.0", false, false},
		{"255.255.255.255", false, false},
		{"ff02::1", false, true},
		{"fe80::1", false, false},
		{"::ffff:224.0.0.1", false, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr a = make(rows[i].ip);

		assert_int_equal(addr_is_wildcard(&a), rows[i].wildcard);
		assert_int_equal(addr_is_multicast(&a), rows[i].multicast);
	}
}

static void a_mapped_address_becomes_ipv4(void **state)
{
	struct addr a = make("::ffff:1.2.3.4");
	struct addr want = make("1.2.3.4");
	struct addr r;

	(void)state;
	a.ifindex = want.ifindex = 5;
	r = addr_unmap(&a);
	assert_memory_equal(&r, &want, sizeof(r));
	r = addr_unmap(&want);
	assert_memory_equal(&r, &want, sizeof(r));
	a = make("::1.2.3.4"); /* IPv4-compatible: something else */
	r = addr_unmap(&a);
	assert_memory_equal(&r, &a, sizeof(r));
}

static void addresses_of_one_family_overlap_when_equal_or_wildcard(void **state)
{
	(void)state;
	assert_true(ips_overlap("127.0.0.1", "127.0.0.1"));
	assert_false(ips_overlap("127.0.0.1", "127.0.0.2"));
	assert_true(ips_overlap("0.0.0.0", "127.0.0.1"));
	assert_true(ips_overlap("0.0.0.0", "0.0.0.0"));
	assert_true(ips_overlap("::1", "::1"));
	assert_false(ips_overlap("::1", "::2"));
	assert_true(ips_overlap("::", "::1"));
	assert_true(ips_overlap("::", "::"));
}

static void a_dual_stack_wildcard_overlaps_ipv4_and_v6only_does_not(void **state)
{
	(void)state;
	assert_true(ips_overlap("::", "0.0.0.0"));
	assert_true(ips_overlap("::", "10.0.0.1"));
	assert_true(ips_overlap("::", "::ffff:10.0.0.1"));
	assert_false(ips_overlap("::1", "0.0.0.0"));
	assert_false(ips_overlap("::1", "127.0.0.1"));
	assert_false(overlaps(make_v6only("::"), make("0.0.0.0")));
	assert_false(overlaps(make_v6only("::"), make("10.0.0.1")));
	assert_false(overlaps(make_v6only("::"), make("::ffff:10.0.0.1")));
	assert_true(overlaps(make_v6only("::"), make("::")));
	assert_true(overlaps(make_v6only("::"), make("::1")));
	assert_true(overlaps(make_v6only("::1"), make("::1")));
}

static void a_mapped_address_overlaps_as_ipv4(void **state)
{
	(void)state;
	assert_true(ips_overlap("::ffff:10.0.0.1", "10.0.0.1"));
	assert_true(ips_overlap("::ffff:10.0.0.1", "0.0.0.0"));
	assert_true(ips_overlap("::ffff:0.0.0.0", "10.0.0.1"));
	assert_false(ips_overlap("::ffff:10.0.0.1", "10.0.0.2"));
	assert_false(ips_overlap("::ffff:0.0.0.0", "::1"));
}

static void protocol_and_port_keep_addresses_apart(void **state)
{
	struct addr udp = make("0.0.0.0");
	struct addr other = make("0.0.0.0");

	(void)state;
	udp.proto = IPPROTO_UDP;
	other.port = 81;
	assert_false(overlaps(make("0.0.0.0"), udp));
	assert_false(overlaps(make("::"), udp));
	assert_true(overlaps(udp, udp));
	assert_false(overlaps(make("0.0.0.0"), other));
}

static void only_two_different_devices_keep_addresses_apart(void **state)
{
	(void)state;
	assert_false(overlaps(make_on("0.0.0.0", 1), make_on("0.0.0.0", 2)));
	assert_false(overlaps(make_on("::", 1), make_on("10.0.0.1", 2)));
	assert_true(overlaps(make_on("0.0.0.0", 1), make_on("0.0.0.0", 1)));
	assert_true(overlaps(make_on("0.0.0.0", 1), make("0.0.0.0")));
	assert_true(overlaps(make_on("10.0.0.1", 1), make("::")));
	assert_false(overlaps(make_on("10.0.0.1", 1), make("10.0.0.2")));
}

static void addresses_are_written_as_operators_write_them(void **state)
{
	static const struct {
		const char *ip;
		const char *text;
	} rows[] = {
		{"127.0.0.1", "127.0.0.1:80"},
		{"0.0.0.0", "0.0.0.0:80"},
		{"::1", "[::1]:80"},
		{"::", "[::]:80"},
		{"2001:db8:0:0::5", "[2001:db8::5]:80"},
		{"::ffff:1.2.3.4", "[::ffff:1.2.3.4]:80"},
	};
	char buf[ADDR_TEXT_MAX];
	char tiny[6];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr a = make(rows[i].ip);

		assert_ptr_equal(addr_format(&a, buf, sizeof(buf)), buf);
		assert_string_equal(buf, rows[i].text);
	}
	struct addr a = make("1111:2222:3333:4444:5555:6666:7777:8888");
	a.port = 65535;
	assert_string_equal(addr_format(&a, buf, sizeof(buf)),
			    "[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
	assert_string_equal(addr_format(&a, tiny, sizeof(tiny)), "[1111");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ipv4_socket_address_is_taken_apart),
		cmocka_unit_test(an_ipv6_socket_address_is_taken_apart),
		cmocka_unit_test(an_unaligned_socket_address_is_read),
		cmocka_unit_test(short_and_foreign_socket_addresses_are_refused),
		cmocka_unit_test(socket_addresses_make_the_round_trip),
		cmocka_unit_test(equal_means_every_field),
		cmocka_unit_test(wildcard_and_multicast_are_known_in_each_family),
		cmocka_unit_test(a_mapped_address_becomes_ipv4),
		cmocka_unit_test(addresses_of_one_family_overlap_when_equal_or_wildcard),
		cmocka_unit_test(a_dual_stack_wildcard_overlaps_ipv4_and_v6only_does_not),
		cmocka_unit_test(a_mapped_address_overlaps_as_ipv4),
		cmocka_unit_test(protocol_and_port_keep_addresses_apart),
		cmocka_unit_test(only_two_different_devices_keep_addresses_apart),
		cmocka_unit_test(addresses_are_written_as_operators_write_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The parser of sock_diag answers on made-up buffers. */
#include "../../shim/os/linux_diag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PORT 8080
#define SEQ  77

static const struct linux_diag_query query4 = {IPPROTO_TCP, AF_INET, PORT, SEQ, 0};
static const struct linux_diag_query query6 = {IPPROTO_TCP, AF_INET6, PORT, SEQ, 0};

/* A buffer of messages that a test writes. */
struct out {
	_Alignas(8) uint8_t bytes[4096];
	size_t len;
};

static void put(struct out *o, uint16_t type, uint16_t flags, uint32_t seq, const void *payload,
		size_t len)
{
	const struct nlmsghdr h = {.nlmsg_len = (uint32_t)(sizeof(h) + len),
				   .nlmsg_type = type,
				   .nlmsg_flags = flags,
				   .nlmsg_seq = seq};

	assert_in_range(o->len + sizeof(h) + NLMSG_ALIGN(len), 0, sizeof(o->bytes));
	memcpy(o->bytes + o->len, &h, sizeof(h));
	if (len > 0)
		memcpy(o->bytes + o->len + sizeof(h), payload, len);
	o->len += sizeof(h) + NLMSG_ALIGN(len);
}

static struct inet_diag_msg socket4(uint32_t cookie_low, uint32_t cookie_high)
{
	struct inet_diag_msg m = {.idiag_family = AF_INET,
				  .idiag_state = TCP_LISTEN,
				  .idiag_uid = 1000,
				  .idiag_inode = 4711};

	m.id.idiag_sport = htons(PORT);
	m.id.idiag_src[0] = htonl(INADDR_LOOPBACK);
	m.id.idiag_src[1] = 0xffffffff; /* must not be taken for a part of an IPv4 address */
	m.id.idiag_if = 3;
	m.id.idiag_cookie[0] = cookie_low;
	m.id.idiag_cookie[1] = cookie_high;
	return m;
}

static void put_socket4(struct out *o, uint32_t seq, uint32_t cookie)
{
	const struct inet_diag_msg m = socket4(cookie, 0);

	put(o, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, seq, &m, sizeof(m));
}

static void put_socket6(struct out *o, const void *attributes, size_t len)
{
	struct {
		struct inet_diag_msg m;
		uint8_t attributes[64];
	} m = {.m = socket4(9, 0)};

	m.m.idiag_family = AF_INET6;
	memset(m.m.id.idiag_src, 0, sizeof(m.m.id.idiag_src));
	memcpy(m.attributes, attributes, len);
	put(o, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, SEQ, &m, sizeof(m.m) + len);
}

static void put_error(struct out *o, uint16_t type, uint32_t seq, int error)
{
	put(o, type, NLM_F_MULTI, seq, &error, sizeof(error));
}

static struct os_listener found[8];

static struct linux_diag_list empty_list(void)
{
	memset(found, 0, sizeof(found));
	return (struct linux_diag_list){.entry = found, .max = 8};
}

static void every_field_of_a_socket_is_taken(void **state)
{
	const struct inet_diag_msg m = socket4(0x55667788, 0x11223344);
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	put(&o, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, SEQ, &m, sizeof(m));
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 0);
	assert_int_equal(list.n, 1);
	assert_true(found[0].cookie == 0x1122334455667788);
	assert_int_equal(found[0].uid, 1000);
	assert_int_equal(found[0].inode, 4711);
	assert_int_equal(found[0].addr.proto, IPPROTO_TCP);
	assert_int_equal(found[0].addr.family, AF_INET);
	assert_int_equal(found[0].addr.port, PORT);
	assert_int_equal(found[0].addr.ifindex, 3);
	assert_memory_equal(found[0].addr.ip, "\x7f\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", 16);
}

static void v6only_is_found_behind_other_attributes(void **state)
{
	struct {
		struct nlattr shutdown;
		uint8_t a, pad_a[3];
		struct nlattr v6only;
		uint8_t b, pad_b[3];
	} attributes = {.shutdown = {5, INET_DIAG_SHUTDOWN},
			.a = 1,
			.v6only = {5, INET_DIAG_SKV6ONLY},
			.b = 1};
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	put_socket6(&o, &attributes, sizeof(attributes));
	attributes.b = 0;
	put_socket6(&o, &attributes, sizeof(attributes));
	put_socket6(&o, &attributes, 0);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query6, &list), 0);
	assert_int_equal(list.n, 3);
	assert_int_equal(found[0].addr.v6only, 1);
	assert_int_equal(found[1].addr.v6only, 0);
	assert_int_equal(found[2].addr.v6only, 0);
}

static void broken_attributes_are_passed_over(void **state)
{
	static const struct nlattr broken[] = {{0, INET_DIAG_SKV6ONLY},
					       {3, INET_DIAG_SKV6ONLY},
					       {4, INET_DIAG_SKV6ONLY}, /* no value */
					       {200, INET_DIAG_SKV6ONLY}};
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		put_socket6(&o, &broken[i], sizeof(broken[i]));
	put_socket6(&o, broken, 2); /* not even a header */
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query6, &list), 0);
	assert_int_equal(list.n, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(found[i].addr.v6only, 0);
}

static void sockets_that_were_not_asked_for_are_passed_over(void **state)
{
	struct inet_diag_msg m = socket4(1, 0);
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	m.idiag_state = TCP_CLOSE;
	put(&o, SOCK_DIAG_BY_FAMILY, 0, SEQ, &m, sizeof(m));
	m = socket4(1, 0);
	m.id.idiag_sport = htons(PORT + 1);
	put(&o, SOCK_DIAG_BY_FAMILY, 0, SEQ, &m, sizeof(m));
	put_socket6(&o, "", 0);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 0);
	assert_int_equal(list.n, 0);
}

static void answers_to_an_earlier_request_are_passed_over(void **state)
{
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	put_socket4(&o, SEQ - 1, 1);
	put_error(&o, NLMSG_ERROR, SEQ - 1, -EBUSY);
	put(&o, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP_INTR, SEQ - 1, "", 0);
	put_error(&o, NLMSG_DONE, SEQ - 1, 0);
	put_socket4(&o, SEQ, 2);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 0);
	assert_int_equal(list.n, 1);
	assert_true(found[0].cookie == 2);
	assert_false(list.interrupted);
}

static void the_end_of_a_dump_is_seen_and_nothing_behind_it(void **state)
{
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	put_socket4(&o, SEQ, 1);
	put_error(&o, NLMSG_DONE, SEQ, 0);
	put_socket4(&o, SEQ, 2);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 1);
	assert_int_equal(list.n, 1);
	o.len = 0;
	put(&o, NLMSG_DONE, 0, SEQ, NULL, 0);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 1);
}

static void an_error_in_either_form_is_returned(void **state)
{
	static const struct {
		uint16_t type;
		int sent, result;
	} row[] = {
		{NLMSG_ERROR, -EBUSY, -EBUSY},
		{NLMSG_DONE, -ENOMEM, -ENOMEM},
		{NLMSG_ERROR, -ENOENT, -ENOTSUP},
		{NLMSG_DONE, -ENOENT, -ENOTSUP},
		{NLMSG_ERROR, -EPERM, -EPERM},
		{NLMSG_ERROR, EPERM, -EBADMSG},
		{NLMSG_DONE, -1000000, -EBADMSG},
		{NLMSG_ERROR, 0, 0},
		{NLMSG_ERROR, -EPROTONOSUPPORT, -ENOTSUP},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct linux_diag_list list = empty_list();
		struct out o = {.len = 0};

		put_error(&o, row[i].type, SEQ, row[i].sent);
		assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), row[i].result);
	}
}

static void an_interrupted_dump_is_marked(void **state)
{
	const struct inet_diag_msg m = socket4(1, 0);
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	put(&o, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI | NLM_F_DUMP_INTR, SEQ, &m, sizeof(m));
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 0);
	assert_true(list.interrupted);
	list = empty_list();
	o.len = 0;
	put(&o, NLMSG_OVERRUN, 0, SEQ, NULL, 0);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 0);
	assert_true(list.interrupted);
}

static void a_message_cut_anywhere_is_an_error(void **state)
{
	struct out whole = {.len = 0};

	(void)state;
	put_socket4(&whole, SEQ, 1);
	for (size_t len = 1; len < whole.len; len++) {
		struct linux_diag_list list = empty_list();

		assert_int_equal(linux_diag_parse(whole.bytes, len, &query4, &list), -EBADMSG);
		assert_int_equal(list.n, 0);
	}
}

static void a_length_that_lies_is_an_error(void **state)
{
	static const uint32_t lie[] = {0, 1, 15, 4097, 0x80000000, 0xffffffff};
	const struct inet_diag_msg m = socket4(1, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(lie) / sizeof(lie[0]); i++) {
		struct linux_diag_list list = empty_list();
		struct out o = {.len = 0};

		put_socket4(&o, SEQ, 1);
		memcpy(o.bytes, &lie[i], sizeof(lie[i]));
		assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), -EBADMSG);
	}
	for (size_t len = 0; len < sizeof(m); len++) {
		struct linux_diag_list list = empty_list();
		struct out o = {.len = 0};

		put(&o, SOCK_DIAG_BY_FAMILY, 0, SEQ, &m, len);
		assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), -EBADMSG);
	}
}

static void more_than_there_is_room_for_is_marked_not_written(void **state)
{
	struct linux_diag_list list = empty_list();
	struct out o = {.len = 0};

	(void)state;
	list.max = 2;
	for (uint32_t i = 1; i <= 3; i++)
		put_socket4(&o, SEQ, i);
	put_error(&o, NLMSG_DONE, SEQ, 0);
	assert_int_equal(linux_diag_parse(o.bytes, o.len, &query4, &list), 1);
	assert_int_equal(list.n, 2);
	assert_true(list.full);
	assert_true(found[2].cookie == 0);
}

static void a_socket_told_again_in_the_next_buffer_is_listed_once(void **state)
{
	struct linux_diag_list list = empty_list();
	struct out first = {.len = 0}, second = {.len = 0};

	(void)state;
	put_socket4(&first, SEQ, 1);
	put_socket4(&first, SEQ, 2);
	put_socket4(&second, SEQ, 2);
	put_socket4(&second, SEQ, 3);
	assert_int_equal(linux_diag_parse(first.bytes, first.len, &query4, &list), 0);
	assert_int_equal(linux_diag_parse(second.bytes, second.len, &query4, &list), 0);
	assert_int_equal(list.n, 3);
	assert_true(found[2].cookie == 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_of_a_socket_is_taken),
		cmocka_unit_test(v6only_is_found_behind_other_attributes),
		cmocka_unit_test(broken_attributes_are_passed_over),
		cmocka_unit_test(sockets_that_were_not_asked_for_are_passed_over),
		cmocka_unit_test(answers_to_an_earlier_request_are_passed_over),
		cmocka_unit_test(the_end_of_a_dump_is_seen_and_nothing_behind_it),
		cmocka_unit_test(an_error_in_either_form_is_returned),
		cmocka_unit_test(an_interrupted_dump_is_marked),
		cmocka_unit_test(a_message_cut_anywhere_is_an_error),
		cmocka_unit_test(a_length_that_lies_is_an_error),
		cmocka_unit_test(more_than_there_is_room_for_is_marked_not_written),
		cmocka_unit_test(a_socket_told_again_in_the_next_buffer_is_listed_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

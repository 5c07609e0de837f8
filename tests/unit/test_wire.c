/* keeper/wire.c over real socket pairs: nothing that comes from the other side is trusted. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../shim/keeper/wire.h"

static int ours, theirs; /* the two ends */
static unsigned fds_before;

static unsigned count_fds(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int pair_up(void **state)
{
	int pair[2];

	(void)state;
	fds_before = count_fds();
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	ours = pair[0];
	theirs = pair[1];
	return 0;
}

/* Every test ends with the descriptors it began with. */
static int pair_down(void **state)
{
	(void)state;
	close(ours);
	close(theirs);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static struct wire_head head_of(uint16_t type, size_t length)
{
	return (struct wire_head){
		.magic = WIRE_MAGIC, .type = type, .length = (uint16_t)length, .seq = 9};
}

/* Raw bytes with n descriptors, as a peer of any kind may send them. */
static void send_raw(const void *bytes, size_t length, unsigned n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 16)];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n > 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		for (unsigned i = 0; i < n; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &theirs, sizeof(int));
	}
	assert_int_equal(sendmsg(theirs, &msg, 0), length);
}

static int receive(struct wire_packet *ret)
{
	return wire_receive(sys_get(), ours, MSG_DONTWAIT, ret);
}

static void every_type_arrives_as_it_was_sent(void **state)
{
	(void)state;
	for (uint16_t type = 1; type < WIRE_TYPES; type++) {
		int body = wire_body_size(type);
		struct wire_packet out, in;

		assert_true(body >= 0);
		memset(&out, 0, sizeof(out));
		for (int i = 0; i < body; i++)
			out.body.bytes[i] = (uint8_t)(i + type);
		out.head.type = type;
		out.head.seq = 70000u + type;
		out.head.result = -type;
		assert_int_equal(wire_send(sys_get(), theirs, &out, 0), 0);
		memset(&in, 0xee, sizeof(in));
		assert_int_equal(receive(&in), 1);
		assert_int_equal(in.head.type, type);
		assert_int_equal(in.head.seq, 70000u + type);
		assert_int_equal(in.head.result, -type);
		assert_int_equal(in.head.length, sizeof(in.head) + (size_t)body);
		assert_memory_equal(in.body.bytes, out.body.bytes, sizeof(in.body.bytes));
		assert_int_equal(in.n_fds, 0);
		assert_int_equal(in.fds[0], -1);
	}
}

static void a_type_that_does_not_exist_is_not_sent(void **state)
{
	struct wire_packet p;

	(void)state;
	memset(&p, 0, sizeof(p));
	assert_int_equal(wire_send(sys_get(), theirs, &p, 0), -EPROTO);
	p.head.type = WIRE_TYPES;
	assert_int_equal(wire_send(sys_get(), theirs, &p, 0), -EPROTO);
	assert_int_equal(wire_body_size(0), -EPROTO);
	assert_int_equal(wire_body_size(WIRE_TYPES), -EPROTO);
	assert_int_equal(receive(&p), -EAGAIN);
}

static void bad_heads_are_refused(void **state)
{
	struct wire_head good = head_of(WIRE_STATUS, sizeof(good)), bad;
	struct wire_packet p;

	(void)state;
	assert_int_equal(wire_check(&good, sizeof(good), &p), 0);
	assert_int_equal(wire_check(&good, sizeof(good) - 1, &p), -EPROTO);
	assert_int_equal(wire_check(&good, 0, &p), -EPROTO);
	bad = good;
	bad.magic ^= 1;
	assert_int_equal(wire_check(&bad, sizeof(bad), &p), -EPROTO);
	bad = good;
	bad.length++;
	assert_int_equal(wire_check(&bad, sizeof(bad), &p), -EPROTO);
	bad = good;
	bad.type = 0;
	assert_int_equal(wire_check(&bad, sizeof(bad), &p), -EPROTO);
	bad.type = WIRE_TYPES;
	assert_int_equal(wire_check(&bad, sizeof(bad), &p), -EPROTO);
}

/* Of those that have grown since the first version; 0: it has not. */
static size_t first_size(uint16_t type)
{
	switch (type) {
	case WIRE_HELLO:
		return offsetof(struct wire_hello, vault);
	case WIRE_RESERVE:
		return offsetof(struct wire_reserve, own_program);
	case WIRE_CLAIM:
		return offsetof(struct wire_claim, cookie);
	case WIRE_JOINED:
		return offsetof(struct wire_joined, made);
	case WIRE_REJOIN:
		return offsetof(struct wire_rejoin, order);
	case WIRE_STATUS_SLOT:
		return offsetof(struct wire_status_slot, parent);
	default:
		return 0;
	}
}

static void a_body_shorter_than_the_first_versions_is_refused(void **state)
{
	uint8_t bytes[WIRE_MAX] = {0};

	(void)state;
	for (uint16_t type = 1; type < WIRE_TYPES; type++) {
		size_t length = sizeof(struct wire_head) + (size_t)wire_body_size(type);
		struct wire_head head = head_of(type, length);
		struct wire_packet p;

		memcpy(bytes, &head, sizeof(head));
		assert_int_equal(wire_check(bytes, length, &p), 0);
		if (length == sizeof(head))
			continue;
		if (first_size(type) > 0) {
			length = sizeof(head) + first_size(type);
			head.length = (uint16_t)length;
			memcpy(bytes, &head, sizeof(head));
			assert_int_equal(wire_check(bytes, length, &p), 0);
		}
		head.length--;
		memcpy(bytes, &head, sizeof(head));
		assert_int_equal(wire_check(bytes, length - 1, &p), -EPROTO);
	}
}

static void what_a_later_version_appended_is_ignored(void **state)
{
	uint8_t bytes[WIRE_MAX];
	struct wire_head head = head_of(WIRE_CLAIM, sizeof(bytes));
	struct wire_packet p;

	(void)state;
	memset(bytes, 0x5a, sizeof(bytes));
	memcpy(bytes, &head, sizeof(head));
	assert_int_equal(wire_check(bytes, sizeof(bytes), &p), 0);
	for (size_t i = 0; i < sizeof(p.body.bytes); i++)
		assert_int_equal(p.body.bytes[i], i < sizeof(struct wire_claim) ? 0x5a : 0);
}

static void a_packet_longer_than_the_longest_is_refused(void **state)
{
	uint8_t bytes[WIRE_MAX + 1] = {0};
	struct wire_head head = head_of(WIRE_STATUS, sizeof(bytes));
	struct wire_packet p;

	(void)state;
	memcpy(bytes, &head, sizeof(head));
	assert_int_equal(wire_check(bytes, sizeof(bytes), &p), -EPROTO);
	send_raw(bytes, sizeof(bytes), 1);
	assert_int_equal(receive(&p), -EPROTO);
	assert_int_equal(p.n_fds, 0);
}

static void descriptors_arrive_close_on_exec_and_owned(void **state)
{
	struct wire_packet p;

	(void)state;
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_JOIN;
	p.fds[0] = ours;
	p.fds[1] = theirs;
	p.n_fds = 2;
	assert_int_equal(wire_send(sys_get(), theirs, &p, 0), 0);
	assert_int_equal(receive(&p), 1);
	assert_int_equal(p.n_fds, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_not_equal(p.fds[i], ours);
		assert_int_equal(fcntl(p.fds[i], F_GETFD), FD_CLOEXEC);
	}
	wire_close_fds(sys_get(), &p);
	assert_int_equal(p.n_fds, 0);
	assert_int_equal(p.fds[0], -1);
	wire_close_fds(sys_get(), &p); /* again is no harm */
}

static void too_many_descriptors_are_refused_and_closed(void **state)
{
	struct wire_head head = head_of(WIRE_STATUS, sizeof(head));
	struct wire_packet p;

	(void)state;
	for (unsigned n = WIRE_FDS_MAX + 1; n <= 16; n++) {
		send_raw(&head, sizeof(head), n);
		assert_int_equal(receive(&p), -EPROTO);
		assert_int_equal(p.n_fds, 0);
		assert_int_equal(count_fds(), fds_before + 2);
	}
}

static void descriptors_of_a_bad_packet_are_closed(void **state)
{
	struct wire_head head = head_of(WIRE_TYPES, sizeof(head));
	struct wire_packet p;

	(void)state;
	send_raw(&head, sizeof(head), 2);
	assert_int_equal(receive(&p), -EPROTO);
	assert_int_equal(p.n_fds, 0);
}

/* It looks like the end of the connection, and brings descriptors nevertheless. */
static void descriptors_of_an_empty_packet_are_closed(void **state)
{
	struct wire_packet p;

	(void)state;
	send_raw("", 0, 2);
	assert_true(receive(&p) <= 0);
	assert_int_equal(p.n_fds, 0);
	assert_int_equal(count_fds(), fds_before + 2);
}

static void the_end_of_the_connection_is_told(void **state)
{
	struct wire_packet p;

	(void)state;
	assert_int_equal(receive(&p), -EAGAIN);
	assert_return_code(shutdown(theirs, SHUT_WR), errno);
	assert_int_equal(receive(&p), 0);
	assert_int_equal(p.n_fds, 0);
}

static void sending_to_nobody_is_an_error_and_no_signal(void **state)
{
	struct wire_packet p;

	(void)state;
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS;
	assert_return_code(shutdown(ours, SHUT_RD), errno);
	assert_int_equal(wire_send(sys_get(), theirs, &p, 0), -EPIPE);
}

static void a_full_connection_does_not_block_when_asked_not_to(void **state)
{
	struct wire_packet p;
	int r = 0;

	(void)state;
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS;
	for (int i = 0; r == 0 && i < 100000; i++)
		r = wire_send(sys_get(), theirs, &p, MSG_DONTWAIT);
	assert_int_equal(r, -EAGAIN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_up, pair_down)
	const struct CMUnitTest tests[] = {
		TEST(every_type_arrives_as_it_was_sent),
		TEST(a_type_that_does_not_exist_is_not_sent),
		TEST(bad_heads_are_refused),
		TEST(a_body_shorter_than_the_first_versions_is_refused),
		TEST(what_a_later_version_appended_is_ignored),
		TEST(a_packet_longer_than_the_longest_is_refused),
		TEST(descriptors_arrive_close_on_exec_and_owned),
		TEST(too_many_descriptors_are_refused_and_closed),
		TEST(descriptors_of_a_bad_packet_are_closed),
		TEST(descriptors_of_an_empty_packet_are_closed),
		TEST(the_end_of_the_connection_is_told),
		TEST(sending_to_nobody_is_an_error_and_no_signal),
		TEST(a_full_connection_does_not_block_when_asked_not_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

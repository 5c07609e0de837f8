/* What the keeper refuses: bad descriptors, bad messages, other users. It answers or closes, goes
 * on, and keeps nothing (the fixture counts its descriptors). */
#include "keeper_fixture.h"

#include <sys/mman.h>

#include "../../shim/keeper/peer.h"

#define OTHER_UID 1234

/* Still there, and still good for others. */
static void assert_keeper_works(void)
{
	struct shard_conn s = shard_up("works");

	assert_int_equal(look().groups, 1);
	shard_close(&s);
}

static struct keeper_client reserved(const struct addr *a)
{
	struct wire_reserve w = wanted(*a, "works");
	struct keeper_client c = connect_as(WIRE_SHARD, -1);

	w.own_sharing = 1; /* the sockets here are bound before they are announced */
	assert_int_equal(reserve(&c, &w), 0);
	return c;
}

/* JOIN with a descriptor that is not what it says: -EBADF, and the connection may try again. */
static void refuses(const struct addr *a, int fd)
{
	struct keeper_client c = reserved(a);
	int good;

	assert_int_equal(join(&c, a, fd, NULL), -EBADF);
	close(fd);
	assert_int_equal(look().slots, 0);
	good = open_socket(a, true);
	assert_int_equal(join(&c, a, good, NULL), 0);
	close(good);
	assert_int_equal(leave(&c, WIRE_CLOSED), 0);
	close(c.fd);
}

static void descriptors_that_are_no_socket_are_refused(void **state)
{
	struct addr a = tcp();
	int pipes[2];

	(void)state;
	assert_return_code(pipe(pipes), errno);
	refuses(&a, pipes[0]);
	close(pipes[1]);
	refuses(&a, memfd_create("x", MFD_CLOEXEC));
	refuses(&a, dup(STDERR_FILENO));
}

static void sockets_of_another_kind_are_refused(void **state)
{
	struct addr a = tcp(), udp = address(IPPROTO_UDP, "127.0.0.1");
	struct addr v6 = address(IPPROTO_TCP, "::1"), both = address(IPPROTO_TCP, "::");

	(void)state;
	refuses(&a, socket(AF_UNIX, SOCK_STREAM, 0));
	refuses(&a, open_socket(&udp, true));
	refuses(&udp, open_socket(&a, true));
	refuses(&a, open_socket(&v6, true));
	refuses(&v6, open_socket(&a, true));
	v6 = both;
	v6.v6only = 1;
	refuses(&both, open_socket(&v6, true));
	refuses(&v6, open_socket(&both, true));
}

static void sockets_of_another_address_are_refused(void **state)
{
	struct addr a = tcp(), other = a;

	(void)state;
	other.port = free_port();
	refuses(&a, open_socket(&other, true));
	other = address(IPPROTO_TCP, "127.0.0.2");
	refuses(&a, open_socket(&other, true));
	other = address(IPPROTO_TCP, "0.0.0.0");
	refuses(&a, open_socket(&other, true));
}

static void a_tcp_socket_that_is_not_bound_is_refused(void **state)
{
	struct addr a = tcp();
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), errno);
	refuses(&a, fd);
}

static void a_udp_socket_that_is_bound_before_is_refused(void **state)
{
	struct addr a = address(IPPROTO_UDP, "127.0.0.1");
	int fd = open_socket(&a, true);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);
	struct keeper_client c = reserved(&a);

	(void)state;
	assert_return_code(bind(fd, (struct sockaddr *)&ss, len), errno);
	assert_int_equal(join(&c, &a, fd, NULL), -EBADF);
	close(fd);
	close(c.fd);
}

static void a_socket_without_the_sharing_option_is_refused(void **state)
{
	struct addr a = tcp();

	(void)state;
	refuses(&a, open_socket(&a, false));
}

static void a_cookie_of_another_socket_is_refused(void **state)
{
	struct addr a = tcp();
	struct keeper_client c = reserved(&a);
	int fd = open_socket(&a, true);

	(void)state;
	assert_int_equal(join_with(&c, &a, fd, cookie_of(fd) + 1, NULL), -EBADF);
	assert_int_equal(join(&c, &a, fd, NULL), 0);
	close(fd);
	assert_int_equal(leave(&c, WIRE_CLOSED), 0);
	close(c.fd);
}

static void a_socket_that_is_held_already_is_refused(void **state)
{
	struct shard_conn s = shard_up("works");
	struct addr a = tcp();
	struct keeper_client c = reserved(&a);

	(void)state;
	assert_int_equal(join(&c, &a, s.fd, NULL), -EBADF);
	assert_int_equal(look().slots, 1);
	close(c.fd);
	shard_close(&s);
}

static void a_socket_that_another_user_made_is_refused(void **state)
{
	struct addr a = tcp();
	int fd;

	(void)state;
	if (geteuid() != 0 || seteuid(OTHER_UID) == -1) {
		print_message("  not allowed: to become another user\n");
		skip();
	}
	fd = open_socket(&a, true);
	assert_return_code(seteuid(0), errno);
	refuses(&a, fd);
}

/* --- messages */

static void send_bytes(struct keeper_client *c, const void *bytes, size_t n)
{
	assert_int_equal(send(c->fd, bytes, n, MSG_NOSIGNAL), n);
}

static struct keeper_client raw_connection(void)
{
	struct keeper_client c = {.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
	struct sockaddr_un sun;
	socklen_t len = peer_address(keeper_at.name, 0, 0, &sun);

	assert_return_code(connect(c.fd, (struct sockaddr *)&sun, len), errno);
	return c;
}

static void garbage_ends_the_connection(void **state)
{
	struct keeper_client c;

	(void)state;
	for (size_t n = 0; n < 40; n++) {
		c = n % 2 ? raw_connection() : connect_as(WIRE_SHARD, -1);
		send_bytes(&c, "GET / HTTP/1.1\r\nHost: sockshard.example\r\n", n);
		await(is_closed(&c));
		close(c.fd);
	}
	assert_keeper_works();
}

static void who_says_nothing_is_shut_out(void **state)
{
	struct keeper_client c = raw_connection();
	int64_t start = now_ms();

	(void)state;
	await(is_closed(&c));
	assert_true(now_ms() - start >= 4000);
	close(c.fd);
	assert_keeper_works();
}

static void the_first_message_must_be_hello_and_no_other(void **state)
{
	(void)state;
	for (uint16_t type = WIRE_HELLO + 1; type < WIRE_TYPES; type++) {
		struct keeper_client c = raw_connection();
		struct wire_packet p;

		memset(&p, 0, sizeof(p));
		p.head.type = type;
		assert_int_equal(keeper_tell(sys_get(), &c, &p), 0);
		await(is_closed(&c));
		close(c.fd);
		c = connect_as(WIRE_CONTROL, -1);
		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_HELLO;
		p.body.hello.role = WIRE_CONTROL;
		p.body.hello.version_min = p.body.hello.version_max = WIRE_VERSION;
		assert_int_equal(keeper_tell(sys_get(), &c, &p), 0);
		await(is_closed(&c));
		close(c.fd);
	}
	assert_keeper_works();
}

static int hello(unsigned role, uint32_t lowest, uint32_t highest, int pidfd)
{
	struct keeper_client c = raw_connection();
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.body.hello.role = role;
	p.body.hello.version_min = lowest;
	p.body.hello.version_max = highest;
	p.fds[0] = pidfd;
	p.n_fds = pidfd >= 0;
	r = ask(&c, WIRE_HELLO, &p);
	close(c.fd);
	return r;
}

static void a_version_in_common_is_needed(void **state)
{
	(void)state;
	assert_int_equal(hello(WIRE_SHARD, WIRE_VERSION, WIRE_VERSION, -1), 0);
	assert_int_equal(hello(WIRE_SHARD, 0, WIRE_VERSION + 5, -1), 0);
	assert_int_equal(hello(WIRE_SHARD, WIRE_VERSION + 1, WIRE_VERSION + 5, -1),
			 -EPROTONOSUPPORT);
	assert_int_equal(hello(WIRE_SHARD, 0, WIRE_VERSION - 1, -1), -EPROTONOSUPPORT);
	assert_int_equal(hello(0, WIRE_VERSION, WIRE_VERSION, -1), -ECONNRESET);
	assert_int_equal(hello(WIRE_CONTROL + 1, WIRE_VERSION, WIRE_VERSION, -1), -ECONNRESET);
}

static void a_pidfd_of_somebody_else_is_refused(void **state)
{
	int own = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int other = (int)syscall(SYS_pidfd_open, keeper_pid, 0);
	int null = memfd_create("x", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(hello(WIRE_SHARD, WIRE_VERSION, WIRE_VERSION, own), 0);
	assert_int_equal(hello(WIRE_SHARD, WIRE_VERSION, WIRE_VERSION, other), -EBADF);
	assert_int_equal(hello(WIRE_SHARD, WIRE_VERSION, WIRE_VERSION, null), -EBADF);
	close(own);
	close(other);
	close(null);
}

static void bad_reservations_end_the_connection(void **state)
{
	struct wire_reserve good = wanted(tcp(), "works"), bad[11];

	(void)state;
	for (size_t i = 0; i < 11; i++)
		bad[i] = good;
	bad[0].addr.proto = IPPROTO_SCTP;
	bad[1].addr.family = AF_UNIX;
	bad[2].addr.v6only = 2;
	bad[3].addr.port = 0;
	memset(bad[4].group, 'x', sizeof(bad[4].group));
	bad[5].key = WIRE_KEY_RANDOM + 1;
	bad[6].hold_ms = 86400001;
	bad[7].weight = 1001;
	bad[8].slot = 1024;
	bad[9].slot = WIRE_SLOT_ANY - 1;
	bad[10].mode = WIRE_MODE_HANDOVER + 1;
	for (size_t i = 0; i < 11; i++) {
		struct keeper_client c = connect_as(WIRE_SHARD, -1);

		assert_int_equal(reserve(&c, &bad[i]), -ECONNRESET);
		close(c.fd);
	}
	assert_int_equal(look().groups, 0);
	assert_keeper_works();
}

/* Every message in a state that it does not belong to, with descriptors that nobody asked for. */
static void messages_out_of_turn_change_nothing(void **state)
{
	static const uint16_t types[] = {WIRE_JOIN,	   WIRE_BOUND,	      WIRE_OWN_PROGRAM,
					 WIRE_REGISTER,	   WIRE_STOPPING,     WIRE_GIVE_UP,
					 WIRE_EVENT_LIVE,  WIRE_EVENT_GONE,   WIRE_JOINED,
					 WIRE_STATUS_SLOT, WIRE_STATUS_GROUP, WIRE_STATUS_STRANGER,
					 WIRE_STATUS_LAUNCHER};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct keeper_client c = connect_as(WIRE_SHARD, -1);
		struct wire_packet p;

		memset(&p, 0, sizeof(p));
		p.fds[0] = p.fds[1] = STDERR_FILENO;
		p.n_fds = 2;
		assert_int_equal(ask(&c, types[i], &p), -ECONNRESET);
		close(c.fd);
	}
	assert_int_equal(look().groups, 0);
	assert_keeper_works();
}

static void descriptors_that_nobody_asked_for_are_closed(void **state)
{
	static const uint16_t types[] = {WIRE_RESERVE, WIRE_LEAVE, WIRE_CLEAN_EXIT, WIRE_STATUS};
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	struct wire_packet p;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		memset(&p, 0, sizeof(p));
		if (types[i] == WIRE_RESERVE)
			p.body.reserve = wanted(tcp(), "works");
		else
			p.body.leave.action = WIRE_SHUT_RD;
		p.fds[0] = p.fds[1] = STDERR_FILENO;
		p.n_fds = 2;
		assert_int_equal(ask(&c, types[i], &p), 0);
	}
	close(c.fd); /* the fixture waits until the keeper has none of them */
}

static void a_join_without_a_descriptor_ends_the_connection(void **state)
{
	struct addr a = tcp();
	struct keeper_client c = reserved(&a);

	(void)state;
	assert_int_equal(join(&c, &a, -1, NULL), -ECONNRESET);
	close(c.fd);
	assert_keeper_works();
}

static void a_slow_reader_does_not_stop_the_keeper(void **state)
{
	struct keeper_client slow = connect_as(WIRE_CONTROL, -1);
	struct shard_conn s = shard_up("works");
	struct wire_packet p;
	int r = 0;

	(void)state;
	for (int i = 0; r == 0 && i < 20000; i++) {
		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_STATUS;
		p.head.seq = 1;
		r = wire_send(sys_get(), slow.fd, &p, MSG_DONTWAIT);
	}
	assert_true(r == -EAGAIN || r == -EPIPE || r == -ECONNRESET); /* its answers are not read */
	assert_int_equal(look().slots, 1);
	close(slow.fd);
	shard_close(&s);
}

/* --- another user: may claim by token, and nothing else */

static int as_other_user(int (*what)(const uint8_t *token), const uint8_t *token)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setresgid(OTHER_UID, OTHER_UID, OTHER_UID) == -1 ||
		    setresuid(OTHER_UID, OTHER_UID, OTHER_UID) == -1)
			_exit(77);
		_exit(what(token));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("  not allowed: to become another user\n");
		skip();
	}
	return status;
}

static int other_user_asks(const uint8_t *token)
{
	static const uint16_t types[] = {WIRE_RESERVE,	   WIRE_JOIN,	WIRE_BOUND,
					 WIRE_OWN_PROGRAM, WIRE_STATUS, WIRE_REGISTER,
					 WIRE_STOPPING};
	struct wire_packet p;

	(void)token;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct keeper_client c = connect_as(WIRE_SHARD, -1);

		memset(&p, 0, sizeof(p));
		p.body.reserve = wanted(tcp(), "theirs");
		if (ask(&c, types[i], &p) != -ECONNRESET)
			return (int)i + 1;
		close(c.fd);
	}
	if (hello(WIRE_LAUNCHER, WIRE_VERSION, WIRE_VERSION, -1) != -ECONNRESET ||
	    hello(WIRE_CONTROL, WIRE_VERSION, WIRE_VERSION, -1) != -ECONNRESET)
		return 50;
	return 0;
}

static int other_user_claims(const uint8_t *token)
{
	struct keeper_client c = connect_as(WIRE_SHARD, -1);
	uint8_t wrong[WIRE_TOKEN];

	memcpy(wrong, token, sizeof(wrong));
	wrong[0] ^= 1;
	if (claim(&c, wrong, NULL) != -ENOENT)
		return 1;
	if (claim(&c, token, NULL) != 0)
		return 2;
	if (leave(&c, WIRE_CLOSED) != 0)
		return 3;
	return 0;
}

static void another_user_may_claim_by_token_and_nothing_else(void **state)
{
	struct shard_conn s;

	(void)state;
	if (geteuid() != 0) {
		print_message("  not allowed: to become another user\n");
		skip();
	}
	assert_int_equal(as_other_user(other_user_asks, NULL), 0);
	assert_int_equal(look().groups, 0);
	s = shard_up("works");
	assert_int_equal(as_other_user(other_user_claims, s.joined.token), 0);
	assert_int_equal(state_of(0), WIRE_LIVE);
	shard_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(descriptors_that_are_no_socket_are_refused),
		KEEPER_TEST(sockets_of_another_kind_are_refused),
		KEEPER_TEST(sockets_of_another_address_are_refused),
		KEEPER_TEST(a_tcp_socket_that_is_not_bound_is_refused),
		KEEPER_TEST(a_udp_socket_that_is_bound_before_is_refused),
		KEEPER_TEST(a_socket_without_the_sharing_option_is_refused),
		KEEPER_TEST(a_cookie_of_another_socket_is_refused),
		KEEPER_TEST(a_socket_that_is_held_already_is_refused),
		KEEPER_TEST(a_socket_that_another_user_made_is_refused),
		KEEPER_TEST(garbage_ends_the_connection),
		KEEPER_TEST(who_says_nothing_is_shut_out),
		KEEPER_TEST(the_first_message_must_be_hello_and_no_other),
		KEEPER_TEST(a_version_in_common_is_needed),
		KEEPER_TEST(a_pidfd_of_somebody_else_is_refused),
		KEEPER_TEST(bad_reservations_end_the_connection),
		KEEPER_TEST(messages_out_of_turn_change_nothing),
		KEEPER_TEST(descriptors_that_nobody_asked_for_are_closed),
		KEEPER_TEST(a_join_without_a_descriptor_ends_the_connection),
		KEEPER_TEST(a_slow_reader_does_not_stop_the_keeper),
		KEEPER_TEST(another_user_may_claim_by_token_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The model against the real kernel: four sockets in one group, 600 connections with known source
 * ports; the socket that gets one must be the model's. Loopback only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../shim/steer/cpu.h"
#include "../../shim/steer/program.h"

#define SLOTS	    4
#define CONNECTIONS 600
#define WAIT_MS	    5000
#define VICTIM	    1 /* has a CPU where there are two */

/* One group: who listens where, and how the clients come. */
struct setting {
	const char *name;
	int type;
	enum { V4, V6, DUAL } listener, client;
	enum { PLAIN, OPTIONS } header; /* IPv4 options, an IPv6 extension header */
	enum { FLOW, SRC, CPU, RANDOM } key;
};

struct group {
	const struct setting *as;
	int fd[SLOTS];
	uint16_t port;
	struct bucket_table table;
	struct program_key key;
	bool live[SLOTS];
};

static socklen_t loopback(int family, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	ret->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		in->sin_port = htons(port);
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*in);
	}
	in6->sin6_port = htons(port);
	in6->sin6_addr = in6addr_loopback;
	return sizeof(*in6);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	assert_return_code(getsockname(fd, (struct sockaddr *)&addr, &len), errno);
	/* the port is at the same place in both families */
	return ntohs(((const struct sockaddr_in *)&addr)->sin_port);
}

static int family_of(int listener_or_client)
{
	return listener_or_client == V4 ? AF_INET : AF_INET6;
}

static int open_member(const struct setting *as, uint16_t port)
{
	int family = family_of(as->listener), on = 1, only = as->listener == V6;
	int fd = socket(family, as->type | SOCK_CLOEXEC, 0);
	struct sockaddr_storage addr;
	socklen_t len = loopback(family, port, &addr);

	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), errno);
	if (family == AF_INET6) {
		assert_return_code(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)),
				   errno);
		if (!only)
			((struct sockaddr_in6 *)&addr)->sin6_addr = in6addr_any;
	}
	assert_return_code(bind(fd, (const struct sockaddr *)&addr, len), errno);
	if (as->type == SOCK_STREAM)
		assert_return_code(listen(fd, 64), errno);
	return fd;
}

static void deal_and_attach(struct group *g)
{
	static const uint32_t index_of[SLOTS] = {0, 1, 2, 3};
	struct program_insn insn[PROGRAM_MAX];
	struct sock_fprog prog = {.filter = (struct sock_filter *)insn};
	struct bucket_slot slots[SLOTS];
	int n;

	for (uint16_t i = 0; i < SLOTS; i++)
		slots[i] = (struct bucket_slot){.slot = i, .weight = 1, .live = g->live[i]};
	if (g->as->key == CPU) {
		assert_int_equal(cpu_deal(&g->table, slots, SLOTS), SLOTS);
		g->key.cpus = SLOTS;
	} else {
		assert_return_code(bucket_deal(&g->table, slots, SLOTS), 0);
	}
	n = program_build(&g->table, &g->key, index_of, SLOTS, NULL, 0, insn, PROGRAM_MAX);
	assert_return_code(n, 0);
	prog.len = (unsigned short)n;
	assert_return_code(
		setsockopt(g->fd[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)),
		errno);
}

static void open_group(struct group *g, const struct setting *as)
{
	g->as = as;
	g->port = 0;
	g->key = (struct program_key){.seed = 0xfeedface, .with_port = as->key != SRC};
	g->key.choice = as->key == CPU	    ? PROGRAM_CPU
			: as->key == RANDOM ? PROGRAM_RANDOM
					    : PROGRAM_HASH;
	bucket_init(&g->table);
	for (unsigned i = 0; i < SLOTS; i++) {
		g->fd[i] = open_member(as, g->port);
		g->port = port_of(g->fd[i]);
		g->live[i] = true;
	}
	deal_and_attach(g);
}

static void close_group(struct group *g)
{
	for (unsigned i = 0; i < SLOTS; i++)
		close(g->fd[i]);
}

/* Eight bytes more in every header of this client's packets. */
static void add_options(int fd, int family)
{
	static const uint8_t nops[8] = {1, 1, 1, 1, 1, 1, 1, 0};
	static const uint8_t padding[8] = {0, 0, 1, 4}; /* destination options: PadN */

	if (family == AF_INET)
		assert_return_code(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, nops, sizeof(nops)),
				   errno);
	else
		assert_return_code(
			setsockopt(fd, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding)),
			errno);
}

/* A client with a source address and port of its own: 127.x.y.1 for IPv4. */
static int open_client(const struct group *g, unsigned n, struct program_flow *ret)
{
	int family = family_of(g->as->client);
	int fd = socket(family, g->as->type | SOCK_CLOEXEC, 0);
	struct sockaddr_storage addr;
	socklen_t len = loopback(family, 0, &addr);
	struct sockaddr_in *in = (struct sockaddr_in *)&addr;

	assert_return_code(fd, errno);
	memset(ret, 0, sizeof(*ret));
	ret->family = (uint8_t)family;
	if (family == AF_INET) {
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK + (n << 8));
		memcpy(ret->src, &in->sin_addr, 4);
	} else {
		memcpy(ret->src, &((struct sockaddr_in6 *)&addr)->sin6_addr, 16);
	}
	assert_return_code(bind(fd, (const struct sockaddr *)&addr, len), errno);
	ret->src_port = port_of(fd);
	if (g->as->header == OPTIONS)
		add_options(fd, family);
	if (g->as->header == OPTIONS && family == AF_INET6)
		ret->src_port = 0; /* hidden behind the extension header */
	len = loopback(family, g->port, &addr);
	assert_return_code(connect(fd, (const struct sockaddr *)&addr, len), errno);
	return fd;
}

/* The slot whose socket gets what the client sends. */
static unsigned who_gets(const struct group *g, int client)
{
	struct pollfd p[SLOTS];
	char byte = 'x';
	unsigned slot = 0;
	int fd;

	for (unsigned i = 0; i < SLOTS; i++)
		p[i] = (struct pollfd){.fd = g->fd[i], .events = POLLIN};
	if (g->as->type == SOCK_DGRAM)
		assert_int_equal(send(client, &byte, 1, 0), 1);
	assert_int_equal(poll(p, SLOTS, WAIT_MS), 1);
	while (!(p[slot].revents & POLLIN))
		slot++;
	if (g->as->type == SOCK_DGRAM) {
		assert_int_equal(recv(g->fd[slot], &byte, 1, 0), 1);
		return slot;
	}
	fd = accept4(g->fd[slot], NULL, NULL, SOCK_CLOEXEC);
	assert_return_code(fd, errno);
	close(client); /* first, so that TIME_WAIT stays at the client's port */
	close(fd);
	return slot;
}

/* The n-th of the CPUs that we may use: loopback packets are handled where they are sent. */
static unsigned move_to_cpu(const cpu_set_t *allowed, unsigned n)
{
	unsigned cpu = 0;
	cpu_set_t one;

	for (n %= (unsigned)CPU_COUNT(allowed);; cpu++) {
		if (CPU_ISSET(cpu, allowed) && n-- == 0)
			break;
	}
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_return_code(sched_setaffinity(0, sizeof(one), &one), errno);
	return cpu;
}

/* Nobody can say which one: each live one its share, give or take more than chance does. */
static void check_shares(const struct group *g, const unsigned *count)
{
	unsigned live = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		live += g->live[i];
	for (unsigned i = 0; i < SLOTS && g->as->key == RANDOM; i++) {
		if (g->live[i])
			assert_in_range(count[i] * live, CONNECTIONS / 2, 2 * CONNECTIONS);
	}
}

static void compare_connections(const struct group *g)
{
	unsigned count[SLOTS] = {0};
	cpu_set_t allowed;

	assert_return_code(sched_getaffinity(0, sizeof(allowed), &allowed), errno);
	for (unsigned n = 0; n < CONNECTIONS; n++) {
		unsigned cpu = g->as->key == CPU ? move_to_cpu(&allowed, n) : 0;
		struct program_flow flow;
		int client = open_client(g, n, &flow);
		unsigned got = who_gets(g, client);
		unsigned bucket;

		flow.cpu = cpu;
		bucket = program_bucket(&g->table, &g->key, &flow);
		if (g->as->type == SOCK_DGRAM)
			close(client);
		if (g->as->key != RANDOM && got != g->table.owner[bucket])
			fail_msg("connection %u from port %u: slot %u, the model says %u", n,
				 flow.src_port, got, g->table.owner[bucket]);
		assert_true(g->live[got]);
		count[got]++;
	}
	assert_return_code(sched_setaffinity(0, sizeof(allowed), &allowed), errno);
	check_shares(g, count);
	print_message("  %u of %u as the model says: %u %u %u %u\n", CONNECTIONS, CONNECTIONS,
		      count[0], count[1], count[2], count[3]);
}

static bool may_add_extension_headers(void)
{
	static const uint8_t padding[8] = {0, 0, 1, 4};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = setsockopt(fd, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding));

	close(fd);
	return r == 0;
}

/* All alive, one dead with its socket held, back again. */
static void compare_through_a_death(void **state)
{
	const struct setting *as = *state;
	struct group g;

	if (as->header == OPTIONS && as->listener == V6 && !may_add_extension_headers()) {
		print_message("  not allowed: needs CAP_NET_RAW\n");
		skip();
	}
	open_group(&g, as);
	compare_connections(&g);
	g.live[VICTIM] = false;
	deal_and_attach(&g);
	compare_connections(&g);
	g.live[VICTIM] = true;
	deal_and_attach(&g);
	compare_connections(&g);
	close_group(&g);
}

/* An extension header hides the port: with one address, all go to one slot. */
static struct setting settings[] = {
	{"kernel_and_model_agree_for_udp_over_ipv4", SOCK_DGRAM, V4, V4, PLAIN, FLOW},
	{"kernel_and_model_agree_for_udp_over_ipv6", SOCK_DGRAM, V6, V6, PLAIN, FLOW},
	{"kernel_and_model_agree_for_udp_dual_stack_from_ipv4", SOCK_DGRAM, DUAL, V4, PLAIN, FLOW},
	{"kernel_and_model_agree_for_udp_dual_stack_from_ipv6", SOCK_DGRAM, DUAL, V6, PLAIN, FLOW},
	{"kernel_and_model_agree_for_udp_with_ipv4_options", SOCK_DGRAM, V4, V4, OPTIONS, FLOW},
	{"kernel_and_model_agree_for_udp_behind_an_extension", SOCK_DGRAM, V6, V6, OPTIONS, FLOW},
	{"kernel_and_model_agree_for_udp_by_address", SOCK_DGRAM, V4, V4, PLAIN, SRC},
	{"kernel_and_model_agree_for_tcp_over_ipv4", SOCK_STREAM, V4, V4, PLAIN, FLOW},
	{"kernel_and_model_agree_for_tcp_over_ipv6", SOCK_STREAM, V6, V6, PLAIN, FLOW},
	{"kernel_and_model_agree_for_tcp_dual_stack_from_ipv4", SOCK_STREAM, DUAL, V4, PLAIN, FLOW},
	{"kernel_and_model_agree_for_tcp_dual_stack_from_ipv6", SOCK_STREAM, DUAL, V6, PLAIN, FLOW},
	{"kernel_and_model_agree_for_tcp_with_ipv4_options", SOCK_STREAM, V4, V4, OPTIONS, FLOW},
	{"kernel_and_model_agree_for_tcp_behind_an_extension", SOCK_STREAM, V6, V6, OPTIONS, FLOW},
	{"kernel_and_model_agree_for_tcp_by_address", SOCK_STREAM, V4, V4, PLAIN, SRC},
	{"kernel_and_model_agree_for_udp_by_cpu", SOCK_DGRAM, V4, V4, PLAIN, CPU},
	{"kernel_and_model_agree_for_tcp_by_cpu", SOCK_STREAM, V4, V4, PLAIN, CPU},
	{"kernel_and_model_agree_for_tcp_by_cpu_dual_stack", SOCK_STREAM, DUAL, V6, PLAIN, CPU},
	{"kernel_and_model_agree_for_udp_at_random", SOCK_DGRAM, V6, V6, PLAIN, RANDOM},
	{"kernel_and_model_agree_for_tcp_at_random", SOCK_STREAM, V4, V4, PLAIN, RANDOM},
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

int main(void)
{
	struct CMUnitTest tests[SETTINGS] = {0};

	for (size_t i = 0; i < SETTINGS; i++) {
		tests[i].name = settings[i].name;
		tests[i].test_func = compare_through_a_death;
		tests[i].initial_state = &settings[i];
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* steer/program.c: the size of programs, the stable hash, and that the kernel takes them. What the
 * programs decide is tested in tests/model. */
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/steer/program.h"
#include "../model/cbpf.h"

#define SLOTS_MAX 256

static const struct program_key by_flow = {.seed = 0x12345678, .with_port = true};
static const struct program_key by_src = {.seed = 0x12345678, .with_port = false};

static struct bucket_table table;
static struct program_insn insn[PROGRAM_MAX + 1];
static uint32_t index_of[SLOTS_MAX];

static void deal(size_t n)
{
	struct bucket_slot slots[SLOTS_MAX];

	for (size_t i = 0; i < n; i++)
		slots[i] = (struct bucket_slot){.slot = (uint16_t)i, .weight = 1, .live = true};
	assert_return_code(bucket_deal(&table, slots, n), 0);
}

static void deal_fresh(size_t n)
{
	bucket_init(&table);
	deal(n);
}

static void deal_one_by_one(size_t n)
{
	bucket_init(&table);
	for (size_t i = 1; i <= n; i++)
		deal(i);
}

static int build(const struct program_key *key, size_t max)
{
	return program_build(&table, key, index_of, SLOTS_MAX, NULL, 0, insn, max);
}

static int index_is_slot(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		index_of[i] = i;
	return 0;
}

static void a_fresh_table_of_64_slots_needs_at_most_400_instructions(void **state)
{
	(void)state;
	deal_fresh(4);
	print_message("4 slots: %d instructions\n", build(&by_flow, PROGRAM_MAX));
	deal_fresh(64);
	print_message("64 slots: %d instructions\n", build(&by_flow, PROGRAM_MAX));
	assert_in_range(build(&by_flow, PROGRAM_MAX), 1, 400);
}

static void a_table_grown_to_64_slots_stays_below_720_instructions(void **state)
{
	(void)state;
	deal_one_by_one(64);
	print_message("64 slots one by one: %d instructions\n", build(&by_flow, PROGRAM_MAX));
	assert_in_range(build(&by_flow, PROGRAM_MAX), 1, 720);
}

static void the_most_ragged_table_fits_where_optmem_max_is_20_kib(void **state)
{
	(void)state;
	table.n = BUCKETS_MAX;
	for (unsigned b = 0; b < BUCKETS_MAX; b++)
		table.owner[b] = (uint16_t)(b % 2);
	assert_in_range(build(&by_flow, PROGRAM_MAX), 2 * BUCKETS_MAX, 20480 / sizeof(insn[0]));
	assert_int_equal(cbpf_check(insn, (size_t)build(&by_flow, PROGRAM_MAX)), 0);
}

static void a_program_too_long_is_refused_and_writes_nothing_behind_the_room(void **state)
{
	const struct program_insn guard = {.code = 0xbeef, .k = 0xdeadbeef};
	int n;

	(void)state;
	deal_fresh(64);
	n = build(&by_flow, PROGRAM_MAX);
	for (int max = 0; max < n; max++) {
		insn[max] = guard;
		assert_int_equal(build(&by_flow, (size_t)max), -ENOSPC);
		assert_memory_equal(&insn[max], &guard, sizeof(guard));
	}
	assert_int_equal(build(&by_flow, (size_t)n), n);
}

static void neighbours_with_one_index_are_one_range(void **state)
{
	int two;

	(void)state;
	deal_fresh(2);
	two = build(&by_flow, PROGRAM_MAX);
	deal_fresh(4);
	index_of[1] = 0;
	index_of[2] = index_of[3] = 1;
	assert_int_equal(build(&by_flow, PROGRAM_MAX), two);
}

static uint32_t run(void)
{
	static const uint8_t bytes[40] = {0x45, [9] = IPPROTO_UDP, [12] = 127, [15] = 1};
	const struct cbpf_packet packet = {.bytes = bytes, .len = sizeof(bytes), .payload = 28};
	int n = build(&by_flow, PROGRAM_MAX);

	assert_int_equal(cbpf_check(insn, (size_t)n), 0);
	return cbpf_run(insn, (size_t)n, &packet);
}

/* What the last range returns. */
static uint32_t last_return(const uint32_t *map, size_t n_map)
{
	int n = program_build(&table, &by_flow, map, n_map, NULL, 0, insn, PROGRAM_MAX);

	assert_in_range(n, 1, PROGRAM_MAX);
	return insn[n - 1].k;
}

static void a_bucket_without_a_known_index_is_left_to_the_kernel(void **state)
{
	(void)state;
	bucket_init(&table);
	assert_int_equal(run(), UINT32_MAX); /* owned by nobody */
	deal(1);
	assert_int_equal(run(), 0);
	index_of[0] = UINT32_MAX;
	assert_int_equal(run(), UINT32_MAX);
	index_of[0] = 7;
	assert_int_equal(run(), 7);
	assert_int_equal(last_return(index_of, 0), UINT32_MAX); /* a map without this slot */
}

static void nobody_is_unknown_in_the_longest_map(void **state)
{
	static uint32_t every_slot[BUCKET_NONE + 1];

	(void)state;
	bucket_init(&table);
	assert_int_equal(last_return(every_slot, BUCKET_NONE + 1), UINT32_MAX);
}

static const struct program_flow v4 = {.family = AF_INET, .src = {192, 0, 2, 1}, .src_port = 40000};
static const struct program_flow v6 = {
	.family = AF_INET6, .src = {0x20, 1, 0x0d, 0xb8, [15] = 1}, .src_port = 40000};

/* Flows keep their shard when a new version takes the keeper over, so these values may never
 * change. They come from a second implementation, in Python. */
static void the_hash_is_the_same_in_every_version(void **state)
{
	(void)state;
	assert_int_equal(program_hash(&by_flow, &v4), 0xf21e7362);
	assert_int_equal(program_hash(&by_src, &v4), 0xbfc8a1a0);
	assert_int_equal(program_hash(&by_flow, &v6), 0xbcd673f5);
	assert_int_equal(program_hash(&by_src, &v6), 0x31577af1);
}

static void the_port_counts_only_with_key_flow(void **state)
{
	struct program_flow other = v4;

	(void)state;
	other.src_port++;
	assert_int_not_equal(program_hash(&by_flow, &other), program_hash(&by_flow, &v4));
	assert_int_equal(program_hash(&by_src, &other), program_hash(&by_src, &v4));
}

static void another_seed_gives_another_hash(void **state)
{
	const struct program_key other = {.seed = 0x12345679, .with_port = true};

	(void)state;
	assert_int_not_equal(program_hash(&other, &v4), program_hash(&by_flow, &v4));
}

/* --- the real kernel */

static int join_group(int type, struct sockaddr_in *addr)
{
	int on = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*addr);

	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), errno);
	assert_return_code(bind(fd, (const struct sockaddr *)addr, len), errno);
	if (type == SOCK_STREAM)
		assert_return_code(listen(fd, 8), errno);
	assert_return_code(getsockname(fd, (struct sockaddr *)addr, &len), errno);
	return fd;
}

static void attach(int fd, const struct program_key *key)
{
	int n = build(key, PROGRAM_MAX);
	struct sock_fprog prog = {.len = (unsigned short)n, .filter = (struct sock_filter *)insn};

	assert_return_code(
		setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)), errno);
}

static void attach_all(int type)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int first = join_group(type, &addr);
	int second = join_group(type, &addr);

	deal_fresh(2);
	attach(first, &by_flow);
	attach(second, &by_src);
	deal_one_by_one(64);
	attach(first, &by_flow);
	deal_one_by_one(SLOTS_MAX);
	attach(first, &by_flow);
	the_most_ragged_table_fits_where_optmem_max_is_20_kib(NULL);
	attach(first, &by_flow);
	close(first);
	close(second);
}

static void an_instruction_is_the_kernels(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct program_insn), sizeof(struct sock_filter));
	assert_int_equal(offsetof(struct program_insn, jt), offsetof(struct sock_filter, jt));
	assert_int_equal(offsetof(struct program_insn, jf), offsetof(struct sock_filter, jf));
	assert_int_equal(offsetof(struct program_insn, k), offsetof(struct sock_filter, k));
}

static void the_kernel_takes_the_programs_for_udp(void **state)
{
	(void)state;
	attach_all(SOCK_DGRAM);
}

static void the_kernel_takes_the_programs_for_tcp(void **state)
{
	(void)state;
	attach_all(SOCK_STREAM);
}

static void by_cpu_needs_seven_instructions_more_and_at_random_needs_no_hash(void **state)
{
	struct program_key by_cpu = by_flow, random = by_flow;
	int flow;

	(void)state;
	deal_fresh(2);
	flow = build(&by_flow, PROGRAM_MAX);
	by_cpu.choice = PROGRAM_CPU;
	by_cpu.cpus = 1; /* all CPUs are one slot's */
	assert_int_equal(build(&by_cpu, PROGRAM_MAX), flow);
	by_cpu.cpus = 2;
	assert_int_equal(build(&by_cpu, PROGRAM_MAX), flow + 7);
	random.choice = PROGRAM_RANDOM;
	assert_in_range(build(&random, PROGRAM_MAX), 3, 8);
}

/* SKF_AD_CPU and SKF_AD_RANDOM are no matter of privilege. */
static void an_ordinary_user_may_steer_by_cpu_and_at_random(void **state)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct program_key key = by_flow;
	int status;
	pid_t pid = fork();

	(void)state;
	assert_return_code(pid, errno);
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
			_exit(1);
		deal_fresh(2);
		key.cpus = 2;
		for (key.choice = PROGRAM_CPU; key.choice <= PROGRAM_RANDOM; key.choice++)
			attach(join_group(SOCK_STREAM, &addr), &key);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, index_is_slot)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_table_of_64_slots_needs_at_most_400_instructions),
		TEST(a_table_grown_to_64_slots_stays_below_720_instructions),
		TEST(the_most_ragged_table_fits_where_optmem_max_is_20_kib),
		TEST(a_program_too_long_is_refused_and_writes_nothing_behind_the_room),
		TEST(neighbours_with_one_index_are_one_range),
		TEST(a_bucket_without_a_known_index_is_left_to_the_kernel),
		TEST(nobody_is_unknown_in_the_longest_map),
		TEST(the_hash_is_the_same_in_every_version),
		TEST(the_port_counts_only_with_key_flow),
		TEST(another_seed_gives_another_hash),
		TEST(an_instruction_is_the_kernels),
		TEST(the_kernel_takes_the_programs_for_udp),
		TEST(the_kernel_takes_the_programs_for_tcp),
		TEST(by_cpu_needs_seven_instructions_more_and_at_random_needs_no_hash),
		TEST(an_ordinary_user_may_steer_by_cpu_and_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

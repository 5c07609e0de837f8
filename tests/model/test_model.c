/* The generated program, run by the interpreter over random packets, against the model: hash,
 * bucket, owner, index. SOCKSHARD_TEST_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include "../../shim/steer/bucket.h"
#include "../../shim/steer/cpu.h"
#include "cbpf.h"

#define TABLES		 600
#define PACKETS		 400 /* per table */
#define SLOTS_MAX	 300
#define PACKET_MAX	 256
#define NO_INDEX	 UINT32_MAX
#define IPV6_HOP_BY_HOP	 0
#define IPV6_DESTINATION 60

struct sample {
	uint8_t bytes[PACKET_MAX];
	size_t len, payload;
	size_t need_src, need_flow; /* bytes the two keys read */
	struct program_flow flow;
};

struct steering {
	struct bucket_table table;
	struct program_key key;
	uint32_t index_of[SLOTS_MAX];
	struct program_insn insn[PROGRAM_MAX];
	int n;
};

static uint64_t seed, state_of_random;

static uint32_t draw(uint32_t below)
{
	state_of_random ^= state_of_random << 13;
	state_of_random ^= state_of_random >> 7;
	state_of_random ^= state_of_random << 17;
	return (uint32_t)(state_of_random >> 32) % below;
}

static int start_random(void **state)
{
	const char *text = getenv("SOCKSHARD_TEST_SEED");

	(void)state;
	seed = text ? strtoull(text, NULL, 10) : 1;
	state_of_random = seed * 0x9e3779b97f4a7c15u + 1;
	print_message("SOCKSHARD_TEST_SEED=%llu\n", (unsigned long long)seed);
	return 0;
}

static void random_bytes(uint8_t *p, size_t n)
{
	while (n-- > 0)
		*p++ = (uint8_t)draw(256);
}

/* A random table: some slots, some deaths and newcomers, some without a known index. */
static void random_steering(struct steering *s)
{
	struct bucket_slot slots[SLOTS_MAX];
	size_t n = draw(10) == 0 ? 1 + draw(SLOTS_MAX) : 1 + draw(16);

	bucket_init(&s->table);
	for (size_t i = 0; i < n; i++) {
		slots[i] = (struct bucket_slot){
			.slot = (uint16_t)i, .weight = (uint16_t)draw(4), .live = true};
		s->index_of[i] = draw(20) ? draw(2 * SLOTS_MAX) : NO_INDEX;
	}
	s->key = (struct program_key){.seed = draw(UINT32_MAX), .with_port = draw(3) != 0};
	if (draw(20)) /* else nobody owns anything */
		bucket_deal(&s->table, slots, 1 + draw((uint32_t)n));
	for (size_t i = 0; i < n; i++)
		slots[i].live = draw(4) != 0;
	if (draw(2))
		bucket_deal(&s->table, slots, n);
	s->key.choice = (uint8_t)draw(3);
	if (s->key.choice == PROGRAM_CPU)
		s->key.cpus = (uint16_t)cpu_deal(&s->table, slots, n);
	n = draw(10) ? n : draw((uint32_t)n); /* now and then a map that is too short */
	memset(s->index_of + n, 0xff, (SLOTS_MAX - n) * sizeof(s->index_of[0]));
	s->n = program_build(&s->table, &s->key, s->index_of, n, NULL, 0, s->insn, PROGRAM_MAX);
	assert_in_range(s->n, 1, PROGRAM_MAX);
	assert_int_equal(cbpf_check(s->insn, (size_t)s->n), 0);
}

/* Appends the TCP or UDP header and some payload. */
static void add_transport(struct sample *p, size_t at, bool tcp)
{
	p->payload = at + (tcp ? 20 : 8);
	p->len = p->payload + draw(20);
	p->flow.src_port = (uint16_t)(p->bytes[at] << 8 | p->bytes[at + 1]);
}

static void random_ipv4(struct sample *p)
{
	unsigned words = 5 + draw(11);
	bool tcp = draw(2);

	p->bytes[0] = (uint8_t)(0x40 | words);
	p->bytes[9] = tcp ? IPPROTO_TCP : IPPROTO_UDP;
	p->flow.family = AF_INET;
	memcpy(p->flow.src, p->bytes + 12, 4);
	add_transport(p, 4 * words, tcp);
	p->need_src = 16;
	p->need_flow = 4 * words + 2;
}

static void random_ipv6(struct sample *p)
{
	static const uint8_t extensions[] = {IPV6_HOP_BY_HOP, IPV6_DESTINATION, IPPROTO_ROUTING};
	bool tcp = draw(2);
	uint8_t *next = &p->bytes[6];
	size_t at = 40;

	p->bytes[0] = 0x60 | (p->bytes[0] & 0xf);
	p->flow.family = AF_INET6;
	memcpy(p->flow.src, p->bytes + 8, 16);
	for (unsigned n = draw(3); n > 0; n--) {
		*next = extensions[draw(3)];
		next = &p->bytes[at];
		p->bytes[at + 1] = (uint8_t)draw(3);
		at += 8 + 8u * p->bytes[at + 1];
	}
	*next = tcp ? IPPROTO_TCP : IPPROTO_UDP;
	add_transport(p, at, tcp);
	p->need_src = 24;
	p->need_flow = 42;
	if (at > 40) { /* the port is not looked for behind extension headers */
		p->flow.src_port = 0;
		p->need_flow = 24;
	}
}

static void random_packet(struct sample *p)
{
	memset(p, 0, sizeof(*p));
	random_bytes(p->bytes, sizeof(p->bytes));
	p->flow.cpu = draw(1000);
	if (draw(2))
		random_ipv4(p);
	else
		random_ipv6(p);
}

static uint32_t model(const struct steering *s, const struct program_flow *flow, uint32_t random)
{
	unsigned bucket = s->key.choice == PROGRAM_RANDOM
				  ? bucket_of_hash(&s->table, random)
				  : program_bucket(&s->table, &s->key, flow);
	uint16_t slot = s->table.owner[bucket];

	return slot < SLOTS_MAX ? s->index_of[slot] : NO_INDEX;
}

static void compare(const struct steering *s, const struct sample *p, size_t len)
{
	const struct cbpf_packet packet = {.bytes = p->bytes,
					   .len = len,
					   .payload = p->payload,
					   .cpu = p->flow.cpu,
					   .random = draw(UINT32_MAX)};
	uint32_t got = cbpf_run(s->insn, (size_t)s->n, &packet);
	uint32_t expected = model(s, &p->flow, packet.random);

	if (s->key.choice != PROGRAM_RANDOM && len < (s->key.with_port ? p->need_flow : p->need_src))
		expected = 0;
	if (got != expected)
		fail_msg("seed %llu: family %d, %zu of %zu bytes, key=%s: index %u, expected %u",
			 (unsigned long long)seed, p->flow.family, len, p->len,
			 s->key.with_port ? "flow" : "src", got, expected);
}

static void program_and_model_agree_on_random_packets(void **state)
{
	static struct steering s;
	struct sample p;
	unsigned short_packets = 0;

	(void)state;
	for (unsigned t = 0; t < TABLES; t++) {
		random_steering(&s);
		for (unsigned i = 0; i < PACKETS; i++) {
			random_packet(&p);
			compare(&s, &p, p.len);
			for (size_t len = 0; i % 40 == 0 && len < p.len; len++, short_packets++)
				compare(&s, &p, len);
		}
	}
	print_message("%u packets, %u cut short\n", TABLES * PACKETS, short_packets);
}

static void program_and_model_agree_in_each_of_1024_buckets(void **state)
{
	static struct steering s;
	static bool seen[BUCKETS_MAX];
	struct sample p;
	unsigned buckets = 0;

	(void)state;
	/* a range per bucket, so that every jump of the longest search is used */
	s.table.n = BUCKETS_MAX;
	for (unsigned b = 0; b < BUCKETS_MAX; b++)
		s.table.owner[b] = (uint16_t)(b % SLOTS_MAX);
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		s.index_of[i] = i;
	s.key = (struct program_key){.seed = 5, .with_port = true};
	s.n = program_build(&s.table, &s.key, s.index_of, SLOTS_MAX, NULL, 0, s.insn, PROGRAM_MAX);
	assert_in_range(s.n, 1, PROGRAM_MAX);
	assert_int_equal(cbpf_check(s.insn, (size_t)s.n), 0);
	for (unsigned i = 0; i < 50000; i++) {
		unsigned bucket;

		random_packet(&p);
		compare(&s, &p, p.len);
		bucket = bucket_of_hash(&s.table, program_hash(&s.key, &p.flow));
		buckets += !seen[bucket];
		seen[bucket] = true;
	}
	assert_int_equal(buckets, BUCKETS_MAX);
}

/* x with x * odd = 1 modulo 2^32, by Newton's method. */
static uint32_t inverse(uint32_t odd)
{
	uint32_t x = odd;

	for (unsigned i = 0; i < 5; i++)
		x *= 2 - odd * x;
	return x;
}

static uint32_t unmix(uint32_t h)
{
	return (h ^ h >> 15 ^ h >> 30) * inverse(0x7feb352d);
}

/* The IPv4 address that by key=src and seed 0 has this hash: every step of it can be undone. */
static uint32_t address_with_hash(uint32_t hash)
{
	const struct program_key key = {.seed = 0};
	const struct program_flow zero = {.family = AF_INET};
	uint32_t last = inverse(0x846ca68b);
	uint32_t second_key = unmix(program_hash(&key, &zero) * last);

	return unmix(unmix(hash * last) ^ second_key);
}

static void program_and_model_agree_at_both_ends_of_each_bucket(void **state)
{
	static struct steering s = {.table.n = BUCKETS_MIN};

	(void)state;
	for (unsigned b = 0; b < BUCKETS_MIN; b++) {
		s.table.owner[b] = (uint16_t)b;
		s.index_of[b] = b;
	}
	s.n = program_build(&s.table, &s.key, s.index_of, BUCKETS_MIN, NULL, 0, s.insn, PROGRAM_MAX);
	for (uint32_t b = 0; b < BUCKETS_MIN; b++) {
		const uint32_t ends[] = {b << 24, b << 24 | 0xffffff};

		for (unsigned i = 0; i < 2; i++) {
			uint32_t address = htonl(address_with_hash(ends[i]));
			struct sample p = {.bytes = {0x45}, .len = 28, .payload = 28};

			p.flow.family = AF_INET;
			memcpy(p.flow.src, &address, 4);
			memcpy(p.bytes + 12, &address, 4);
			assert_int_equal(program_hash(&s.key, &p.flow), ends[i]);
			assert_int_equal(model(&s, &p.flow, 0), b);
			compare(&s, &p, p.len);
		}
	}
}

static void other_ip_versions_are_left_to_the_kernel(void **state)
{
	static struct steering s;
	struct sample p;

	(void)state;
	for (unsigned version = 0; version < 16; version++) {
		struct cbpf_packet packet = {.bytes = p.bytes};

		if (version == 4 || version == 6)
			continue;
		do {
			random_steering(&s);
		} while (s.key.choice == PROGRAM_RANDOM); /* reads no packet */
		random_packet(&p);
		p.bytes[0] = (uint8_t)(version << 4 | 5);
		packet.len = p.len;
		packet.payload = p.payload;
		assert_int_equal(cbpf_run(s.insn, (size_t)s.n, &packet), NO_INDEX);
	}
}

/* Four slots, one quarter of the hash space each. */
static void assert_even(const unsigned count[4], const char *what, uint32_t hash_seed)
{
	unsigned total = count[0] + count[1] + count[2] + count[3];

	for (unsigned i = 0; i < 4; i++) {
		if (count[i] * 10 < total * 2 || count[i] * 10 > total * 3)
			fail_msg("%s, hash seed %u: slot %u got %u of %u", what, hash_seed, i,
				 count[i], total);
	}
}

static struct program_flow flow4(uint32_t address, uint16_t port)
{
	struct program_flow f = {.family = AF_INET, .src_port = port};

	for (unsigned i = 0; i < 4; i++)
		f.src[i] = (uint8_t)(address >> (24 - 8 * i));
	return f;
}

/* The n-th flow of a kind of traffic. */
static struct program_flow nth_flow(unsigned kind, unsigned n)
{
	struct program_flow f = flow4(0x7f000001, (uint16_t)(20000 + n));

	switch (kind) {
	case 0: /* sequential ports of one client */
		return f;
	case 1: /* Linux clients use every second */
		return flow4(0x7f000001, (uint16_t)(20000 + 2 * n));
	case 2: /* sequential addresses */
		return flow4(0x0a000000 + n, 40000);
	case 3: /* one address in each of many /24 */
		return flow4(0x0a000001 + (n << 8), 40000);
	case 4: /* IPv6 clients, one per /64 */
		f.family = AF_INET6;
		memset(f.src, 0, sizeof(f.src));
		f.src[0] = 0x20;
		f.src[6] = (uint8_t)(n >> 8);
		f.src[7] = (uint8_t)n;
		return f;
	default: /* random */
		f.family = draw(2) ? AF_INET : AF_INET6;
		f.src_port = (uint16_t)draw(65536);
		random_bytes(f.src, sizeof(f.src));
		return f;
	}
}

static void spread(unsigned kind, unsigned flows, bool with_port, const char *what)
{
	static const uint32_t seeds[] = {0,	     1,		 2,	     3,
					 0x80000000, 0xffffffff, 0x12345678, 0xdeadbeef};

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
		const struct program_key key = {.seed = seeds[i], .with_port = with_port};
		unsigned count[4] = {0};

		for (unsigned n = 0; n < flows; n++) {
			struct program_flow f = nth_flow(kind, n);

			count[program_hash(&key, &f) >> 30]++;
		}
		assert_even(count, what, seeds[i]);
	}
}

static void every_kind_of_traffic_spreads_evenly(void **state)
{
	(void)state;
	spread(0, 4000, true, "sequential ports");
	spread(1, 4000, true, "even ports");
	spread(2, 4000, true, "sequential addresses");
	spread(2, 4000, false, "sequential addresses by key=src");
	spread(3, 4000, false, "networks by key=src");
	spread(4, 4000, false, "IPv6 networks by key=src");
	spread(5, 100000, true, "random flows");
	spread(5, 100000, false, "random flows by key=src");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(program_and_model_agree_on_random_packets, start_random),
		cmocka_unit_test_setup(program_and_model_agree_in_each_of_1024_buckets,
				       start_random),
		cmocka_unit_test_setup(program_and_model_agree_at_both_ends_of_each_bucket,
				       start_random),
		cmocka_unit_test_setup(other_ip_versions_are_left_to_the_kernel, start_random),
		cmocka_unit_test_setup(every_kind_of_traffic_spreads_evenly, start_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The hash in C and, step for step, as classic BPF; then a binary search over the ranges of the
 * table. The opcodes are spelled here: they are those of bpf(4) and linux/filter.h. */
#include "program.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "cpu.h"

enum {
	LD_W_ABS = 0x20,
	LD_B_ABS = 0x30,
	LD_H_ABS = 0x28,
	LD_H_IND = 0x48,
	LD_IMM = 0x00,
	LDX_MSH = 0xb1, /* X = 4 * (low nibble of the byte): the length of an IPv4 header */
	LD_MEM = 0x60,
	LDX_MEM = 0x61,
	ST = 0x02,
	ADD_X = 0x0c,
	MUL_K = 0x24,
	RSH_K = 0x74,
	MOD_K = 0x94,
	XOR_K = 0xa4,
	XOR_X = 0xac,
	TAX = 0x07,
	JA = 0x05,
	JEQ_K = 0x15,
	JGE_K = 0x35,
	RET_K = 0x06,
};

/* Loads at or above it count from the network header, not from the payload (SKF_NET_OFF). */
#define NET(offset) (0xfff00000u + (offset))

/* No bytes of the packet (SKF_AD_OFF): which CPU runs the program, and a random number. */
#define CPU    0xfffff024u
#define RANDOM 0xfffff038u

#define UNKNOWN UINT32_MAX /* no such index: the kernel takes its own hash */

/* Multipliers of a good 32-bit mixer (C. Wellons, "Prospecting for Hash Functions", lowbias32). The
 * bucket is the top bits, so the hash ends with a multiplication: that carries lower bits up. */
#define HASH_MUL      0x7feb352du
#define HASH_MUL_LAST 0x846ca68bu
#define HASH_SHIFT    15

#define NEAR_RANGES 128 /* they are 255 instructions: as far as a conditional jump goes */

struct code {
	struct program_insn *insn;
	size_t max;
	size_t n; /* may pass max: then only the counting goes on */
};

struct range {
	uint32_t first; /* lowest hash */
	uint32_t index;
};

static uint32_t word_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t mix(uint32_t h)
{
	h *= HASH_MUL;
	return h ^ h >> HASH_SHIFT;
}

/* Xored in before the last step: who does not know the seed cannot undo the mixing before it. */
static uint32_t second_key(uint32_t seed)
{
	return mix(mix(seed + HASH_MUL));
}

uint32_t program_hash(const struct program_key *key, const struct program_flow *flow)
{
	unsigned words = flow->family == AF_INET ? 1 : 4;
	uint32_t h = key->seed;

	for (unsigned i = 0; i < words; i++)
		h = mix(h ^ word_at(flow->src + 4 * i));
	if (key->with_port)
		h = mix(h ^ flow->src_port);
	return mix(h ^ second_key(key->seed)) * HASH_MUL_LAST;
}

/* How much of the space of hashes one of the CPUs' ranges is. */
static uint32_t cpu_width(const struct bucket_table *t, const struct program_key *key)
{
	return (uint32_t)(((uint64_t)cpu_range(t, key->cpus) << 32) / t->n);
}

unsigned program_bucket(const struct bucket_table *t, const struct program_key *key,
			const struct program_flow *flow)
{
	uint32_t h = program_hash(key, flow);
	uint32_t width;

	if (key->choice == PROGRAM_CPU && key->cpus > 1) {
		width = cpu_width(t, key);
		h = flow->cpu % key->cpus * width + h % width;
	}
	return bucket_of_hash(t, h);
}

static size_t emit_jump(struct code *c, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (c->n < c->max)
		c->insn[c->n] = (struct program_insn){.code = code, .jt = jt, .jf = jf, .k = k};
	return c->n++;
}

static size_t emit(struct code *c, uint16_t code, uint32_t k)
{
	return emit_jump(c, code, k, 0, 0);
}

/* Makes the jump at @from, taken when its condition is true, come here. */
static void land(struct code *c, size_t from)
{
	size_t distance = c->n - from - 1;

	if (from >= c->max)
		return;
	if (c->insn[from].code == JA)
		c->insn[from].k = (uint32_t)distance;
	else
		c->insn[from].jt = (uint8_t)distance;
}

/* A = mix(A); X is used up. */
static void emit_mix(struct code *c)
{
	emit(c, MUL_K, HASH_MUL);
	emit(c, TAX, 0);
	emit(c, RSH_K, HASH_SHIFT);
	emit(c, XOR_X, 0);
}

/* M[0] = source port, 0 behind an extension header. */
static void emit_port6(struct code *c)
{
	size_t tcp, udp, none;

	emit(c, LD_B_ABS, NET(6));
	tcp = emit(c, JEQ_K, IPPROTO_TCP);
	udp = emit(c, JEQ_K, IPPROTO_UDP);
	emit(c, LD_IMM, 0);
	none = emit(c, JA, 0);
	land(c, tcp);
	land(c, udp);
	emit(c, LD_H_ABS, NET(40));
	land(c, none);
	emit(c, ST, 0);
}

/* A = source address, but for the mixing of its last word, which both families share. */
static void emit_address6(struct code *c, uint32_t seed)
{
	emit(c, LD_W_ABS, NET(8));
	emit(c, XOR_K, seed);
	for (uint32_t word = 1; word < 4; word++) {
		emit_mix(c);
		emit(c, TAX, 0);
		emit(c, LD_W_ABS, NET(8 + 4 * word));
		emit(c, XOR_X, 0);
	}
}

static void emit_port4(struct code *c)
{
	emit(c, LDX_MSH, NET(0));
	emit(c, LD_H_IND, NET(0));
	emit(c, ST, 0);
}

static void emit_address4(struct code *c, uint32_t seed)
{
	emit(c, LD_W_ABS, NET(12));
	emit(c, XOR_K, seed);
}

/* A = program_hash() of the packet. The version is read from the packet, not known from the socket:
 * a dual-stack one gets both. */
static void emit_hash(struct code *c, const struct program_key *key)
{
	size_t version4, version6, done6;

	emit(c, LD_B_ABS, NET(0));
	emit(c, RSH_K, 4);
	version4 = emit(c, JEQ_K, 4);
	version6 = emit(c, JEQ_K, 6);
	emit(c, RET_K, UNKNOWN);
	land(c, version6);
	if (key->with_port)
		emit_port6(c);
	emit_address6(c, key->seed);
	done6 = emit(c, JA, 0);
	land(c, version4);
	if (key->with_port)
		emit_port4(c);
	emit_address4(c, key->seed);
	land(c, done6);
	emit_mix(c);
	if (key->with_port) {
		emit(c, LDX_MEM, 0);
		emit(c, XOR_X, 0);
		emit_mix(c);
	}
	emit(c, XOR_K, second_key(key->seed));
	emit_mix(c);
	emit(c, MUL_K, HASH_MUL_LAST);
}

/* Returns with the index of the range that A is in. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as log2 of the ranges */
static void emit_search(struct code *c, const struct range *ranges, unsigned n)
{
	unsigned left = n / 2;
	bool far = left > NEAR_RANGES;
	size_t right;

	if (n == 1) {
		emit(c, RET_K, ranges[0].index);
		return;
	}
	right = emit_jump(c, JGE_K, ranges[left].first, 0, far);
	if (far)
		right = emit(c, JA, 0);
	emit_search(c, ranges, left);
	land(c, right);
	emit_search(c, ranges + left, n - left);
}

static uint32_t index_at(const struct bucket_table *t, unsigned bucket, const uint32_t *index_of,
			 size_t n_index)
{
	uint16_t slot = t->owner[bucket];

	return slot != BUCKET_NONE && slot < n_index ? index_of[slot] : UNKNOWN;
}

/* One range per stretch of buckets with one index; at least one. */
static unsigned collect_ranges(const struct bucket_table *t, const uint32_t *index_of,
			       size_t n_index, struct range *ret)
{
	unsigned n = 0;

	ret[n++] = (struct range){.first = 0, .index = index_at(t, 0, index_of, n_index)};
	for (unsigned b = 1; b < t->n; b++) {
		uint32_t index = index_at(t, b, index_of, n_index);

		if (ret[n - 1].index == index)
			continue;
		ret[n].first = (uint32_t)(((uint64_t)b << 32) / t->n);
		ret[n++].index = index;
	}
	return n;
}

/* In front of all else, and without it when there is no rule: the port alone. */
static void emit_rules(struct code *c, const struct program_rule *rules, size_t n)
{
	size_t version4, done6;

	if (n == 0)
		return;
	emit(c, LD_B_ABS, NET(0));
	emit(c, RSH_K, 4);
	version4 = emit(c, JEQ_K, 4);
	emit_jump(c, JEQ_K, 6, 1, 0);
	emit(c, RET_K, UNKNOWN);
	emit_port6(c);
	done6 = emit(c, JA, 0);
	land(c, version4);
	emit_port4(c);
	land(c, done6);
	emit(c, LD_MEM, 0);
	for (size_t i = 0; i < n; i++) {
		emit_jump(c, JEQ_K, rules[i].src_port, 0, 1);
		emit(c, RET_K, rules[i].index);
	}
}

/* A = where in the space of hashes its bucket is. */
static void emit_place(struct code *c, const struct bucket_table *t, const struct program_key *key)
{
	if (key->choice == PROGRAM_RANDOM) {
		emit(c, LD_W_ABS, RANDOM);
		return;
	}
	emit_hash(c, key);
	if (key->choice != PROGRAM_CPU || key->cpus <= 1)
		return;
	emit(c, MOD_K, cpu_width(t, key));
	emit(c, ST, 0);
	emit(c, LD_W_ABS, CPU);
	emit(c, MOD_K, key->cpus);
	emit(c, MUL_K, cpu_width(t, key));
	emit(c, LDX_MEM, 0);
	emit(c, ADD_X, 0);
}

int program_build(const struct bucket_table *t, const struct program_key *key,
		  const uint32_t *index_of, size_t n_index, const struct program_rule *rules,
		  size_t n_rules, struct program_insn *ret, size_t max)
{
	struct code c = {.insn = ret, .max = max};
	struct range ranges[BUCKETS_MAX];
	unsigned n = collect_ranges(t, index_of, n_index, ranges);

	emit_rules(&c, rules, n_rules);
	emit_place(&c, t, key);
	emit_search(&c, ranges, n);
	return c.n <= max ? (int)c.n : -ENOSPC;
}

/* Written from the description of the instructions in linux/filter.h and Documentation/networking/
 * filter.rst, not from the generator that it checks. */
#include "cbpf.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct machine {
	const struct cbpf_packet *packet;
	uint32_t a, x, mem[BPF_MEMWORDS];
};

static bool known_load(const struct program_insn *i)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
	case BPF_LD | BPF_H | BPF_ABS:
	case BPF_LD | BPF_B | BPF_ABS:
	case BPF_LD | BPF_W | BPF_IND:
	case BPF_LD | BPF_H | BPF_IND:
	case BPF_LD | BPF_B | BPF_IND:
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_LDX | BPF_B | BPF_MSH:
		return true;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return i->k < BPF_MEMWORDS;
	default:
		return false;
	}
}

static bool known_alu(const struct program_insn *i)
{
	bool by_k = BPF_SRC(i->code) == BPF_K;

	switch (BPF_OP(i->code)) {
	case BPF_ADD:
	case BPF_SUB:
	case BPF_MUL:
	case BPF_AND:
	case BPF_OR:
	case BPF_XOR:
		return true;
	case BPF_NEG:
		return by_k;
	case BPF_DIV:
	case BPF_MOD:
		return !by_k || i->k != 0;
	case BPF_LSH:
	case BPF_RSH:
		return !by_k || i->k < 32;
	default:
		return false;
	}
}

/* Also: does it stay inside, with @left instructions behind it? */
static bool known_jump(const struct program_insn *i, size_t left)
{
	switch (BPF_OP(i->code)) {
	case BPF_JA:
		return BPF_SRC(i->code) == BPF_K && i->k < left;
	case BPF_JEQ:
	case BPF_JGT:
	case BPF_JGE:
	case BPF_JSET:
		return i->jt < left && i->jf < left;
	default:
		return false;
	}
}

static bool known(const struct program_insn *i, size_t left)
{
	if (i->code > 0xff)
		return false;
	switch (BPF_CLASS(i->code)) {
	case BPF_ALU:
		return known_alu(i);
	case BPF_JMP:
		return known_jump(i, left);
	case BPF_RET:
		return i->code == (BPF_RET | BPF_K) || i->code == (BPF_RET | BPF_A);
	case BPF_MISC:
		return i->code == (BPF_MISC | BPF_TAX) || i->code == (BPF_MISC | BPF_TXA);
	default:
		return known_load(i);
	}
}

/* Jumps only go forward, so one pass sees every way to an instruction before the instruction. */
static int check_memory(const struct program_insn *insn, size_t n, uint16_t *written)
{
	uint16_t now = 0; /* words written on every way here */

	memset(written, 0xff, n * sizeof(written[0]));
	for (size_t i = 0; i < n; i++) {
		const struct program_insn *p = &insn[i];

		now &= written[i];
		if (p->code == BPF_ST || p->code == BPF_STX)
			now |= (uint16_t)(1u << p->k);
		else if (p->code == (BPF_LD | BPF_MEM) || p->code == (BPF_LDX | BPF_MEM)) {
			if (!(now & 1u << p->k))
				return -EINVAL;
		} else if (p->code == (BPF_JMP | BPF_JA)) {
			written[i + 1 + p->k] &= now;
			now = 0xffff;
		} else if (BPF_CLASS(p->code) == BPF_JMP) {
			written[i + 1 + p->jt] &= now;
			written[i + 1 + p->jf] &= now;
			now = 0xffff;
		}
	}
	return 0;
}

int cbpf_check(const struct program_insn *insn, size_t n)
{
	uint16_t written[BPF_MAXINSNS];

	if (n == 0 || n > BPF_MAXINSNS || BPF_CLASS(insn[n - 1].code) != BPF_RET)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!known(&insn[i], n - i - 1))
			return -EINVAL;
	}
	return check_memory(insn, n, written);
}

/* False: the load failed and the program ends. */
static bool load(const struct cbpf_packet *p, uint32_t offset, unsigned size, uint32_t *ret)
{
	int64_t at = (int32_t)offset;
	uint32_t v = 0;

	if (at >= 0)
		at += (int64_t)p->payload;
	else if (at >= SKF_NET_OFF && at < SKF_AD_OFF)
		at -= SKF_NET_OFF;
	else
		return false;
	if (at + size > (int64_t)p->len)
		return false;
	for (unsigned i = 0; i < size; i++)
		v = v << 8 | p->bytes[at + i];
	*ret = v;
	return true;
}

static bool run_load(struct machine *m, const struct program_insn *i)
{
	unsigned size = BPF_SIZE(i->code) == BPF_W ? 4 : BPF_SIZE(i->code) == BPF_H ? 2 : 1;
	uint32_t *to = BPF_CLASS(i->code) == BPF_LD ? &m->a : &m->x;

	switch (BPF_MODE(i->code)) {
	case BPF_ABS:
		if (size == 4 && i->k == (uint32_t)(SKF_AD_OFF + SKF_AD_CPU)) {
			*to = m->packet->cpu;
			return true;
		}
		if (size == 4 && i->k == (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)) {
			*to = m->packet->random;
			return true;
		}
		return load(m->packet, i->k, size, to);
	case BPF_IND:
		return load(m->packet, m->x + i->k, size, to);
	case BPF_MSH:
		if (!load(m->packet, i->k, 1, to))
			return false;
		*to = 4 * (*to & 0xf);
		return true;
	case BPF_LEN:
		*to = (uint32_t)(m->packet->len - m->packet->payload);
		return true;
	case BPF_MEM:
		*to = m->mem[i->k];
		return true;
	default: /* BPF_IMM */
		*to = i->k;
		return true;
	}
}

/* False: division by zero, which ends the program as a failed load does. */
static bool run_alu(uint32_t *a, uint16_t op, uint32_t by)
{
	if ((op == BPF_DIV || op == BPF_MOD) && by == 0)
		return false;
	switch (op) {
	case BPF_ADD:
		*a += by;
		break;
	case BPF_SUB:
		*a -= by;
		break;
	case BPF_MUL:
		*a *= by;
		break;
	case BPF_DIV:
		*a /= by;
		break;
	case BPF_MOD:
		*a %= by;
		break;
	case BPF_AND:
		*a &= by;
		break;
	case BPF_OR:
		*a |= by;
		break;
	case BPF_XOR:
		*a ^= by;
		break;
	case BPF_LSH:
		*a <<= by & 31;
		break;
	case BPF_RSH:
		*a >>= by & 31;
		break;
	default: /* BPF_NEG */
		*a = 0 - *a;
		break;
	}
	return true;
}

static size_t jump_by(uint32_t a, const struct program_insn *i, uint32_t with)
{
	switch (BPF_OP(i->code)) {
	case BPF_JA:
		return i->k;
	case BPF_JEQ:
		return a == with ? i->jt : i->jf;
	case BPF_JGT:
		return a > with ? i->jt : i->jf;
	case BPF_JGE:
		return a >= with ? i->jt : i->jf;
	default: /* BPF_JSET */
		return a & with ? i->jt : i->jf;
	}
}

uint32_t cbpf_run(const struct program_insn *insn, size_t n, const struct cbpf_packet *p)
{
	struct machine m = {.packet = p};

	for (size_t pc = 0; pc < n; pc++) {
		const struct program_insn *i = &insn[pc];
		uint32_t operand = BPF_SRC(i->code) == BPF_X ? m.x : i->k;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
		case BPF_LDX:
			if (!run_load(&m, i))
				return 0;
			break;
		case BPF_ST:
			m.mem[i->k] = m.a;
			break;
		case BPF_STX:
			m.mem[i->k] = m.x;
			break;
		case BPF_ALU:
			if (!run_alu(&m.a, BPF_OP(i->code), operand))
				return 0;
			break;
		case BPF_JMP:
			pc += jump_by(m.a, i, operand);
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
		default: /* BPF_MISC */
			if (BPF_MISCOP(i->code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
			break;
		}
	}
	abort(); /* the program was not checked */
}

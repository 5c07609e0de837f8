/* Classic BPF as Linux runs it for a reuseport group (net/core/sock_reuseport.c: run_bpf_filter). A
 * model to compare with: no sockets, every instruction of bpf(4); of the extensions
 * (SKF_AD_OFF) the CPU and the random number. */
#ifndef SOCKSHARD_TESTS_CBPF_H
#define SOCKSHARD_TESTS_CBPF_H

#include <stddef.h>
#include <stdint.h>

#include "../../shim/steer/program.h"

/** What the program sees of one packet. */
struct cbpf_packet {
	const uint8_t *bytes; /* from the network header on */
	size_t len;
	size_t payload; /* where the data pointer is: behind the TCP or UDP header */
	uint32_t cpu, random; /* what the extensions load */
};

/**
 * cbpf_check - what the kernel checks before it takes a program (bpf_check_classic)
 *
 * Length, known instructions, jumps that stay inside, scratch memory read only after it was
 * written on every way there, a return at the end. Returns 0; -EINVAL.
 */
int cbpf_check(const struct program_insn *insn, size_t n);

/**
 * cbpf_run - run a checked program; a load that fails ends it with 0
 *
 * Loads at 0 and above count from the payload, at SKF_NET_OFF and above from the network header.
 */
uint32_t cbpf_run(const struct program_insn *insn, size_t n, const struct cbpf_packet *p);

#endif

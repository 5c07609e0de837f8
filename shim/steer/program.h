/* Table -> classic BPF program for SO_ATTACH_REUSEPORT_CBPF, and the same hash in C. Pure functions;
 * the instruction has the layout of struct sock_filter without needing the system's header. */
#ifndef SOCKSHARD_STEER_PROGRAM_H
#define SOCKSHARD_STEER_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bucket.h"

#define PROGRAM_MAX 4096 /* BPF_MAXINSNS */

struct program_insn {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};

enum program_choice {
	PROGRAM_HASH,   /* the bucket of the hash */
	PROGRAM_CPU,    /* one in the range of the CPU that handles the packet: cpu.h */
	PROGRAM_RANDOM, /* any: drawn anew for each packet */
};

/** How a connection finds its bucket. */
struct program_key {
	uint32_t seed;
	bool with_port; /* hash source address and port; false: the address alone */
	uint8_t choice; /* enum program_choice */
	uint16_t cpus;  /* PROGRAM_CPU: as cpu_deal() returned it */
};

/** A client as the hash sees it. */
struct program_flow {
	uint8_t family; /* AF_INET or AF_INET6; IPv4 over a dual-stack socket is AF_INET */
	uint8_t src[16];
	uint16_t src_port; /* host order; 0 where an IPv6 extension header hides it */
	uint32_t cpu;      /* that handles it; counts with PROGRAM_CPU only */
};

/** A single connection that is to reach a certain socket: from this source port. */
struct program_rule {
	uint16_t src_port; /* host order */
	uint32_t index;
};

/** program_hash - the hash the program computes for this flow; not with PROGRAM_RANDOM */
uint32_t program_hash(const struct program_key *key, const struct program_flow *flow);

/** program_bucket - the bucket the program finds for this flow; not with PROGRAM_RANDOM */
unsigned program_bucket(const struct bucket_table *t, const struct program_key *key,
                        const struct program_flow *flow);

/**
 * program_build - make the program
 * @index_of: slot -> index in the kernel's array, n_index entries; a slot beyond it, or UINT32_MAX:
 *            unknown; its buckets fall back to the kernel's hash (return 0xffffffff)
 * @rules: looked at before the table; n_rules of them
 * @ret: room for max instructions
 *
 * Returns the number of instructions; -ENOSPC when it does not fit into max.
 */
int program_build(const struct bucket_table *t, const struct program_key *key,
                  const uint32_t *index_of, size_t n_index, const struct program_rule *rules,
                  size_t n_rules, struct program_insn *ret, size_t max);

#endif

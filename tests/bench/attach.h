/* What lib_attach.c writes down for every program that its process attached. */
#ifndef SOCKSHARD_TESTS_ATTACH_H
#define SOCKSHARD_TESTS_ATTACH_H

#include <stdint.h>

#define ATTACH_MAX 65536

struct attach_log { /* bench.py reads it: 64-bit words only */
	_Atomic uint64_t n;
	struct {
		uint64_t at_ns;	  /* CLOCK_MONOTONIC, after the call */
		uint64_t woke_ns; /* when epoll_wait() returned last */
		uint64_t hash;	  /* of the program */
		uint64_t instructions;
	} entry[ATTACH_MAX];
};

#endif

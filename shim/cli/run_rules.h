/* What follows when a copy has ended. Pure functions. */
#ifndef SOCKSHARD_CLI_RUN_RULES_H
#define SOCKSHARD_CLI_RUN_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "run_options.h"

#define RUN_BACKOFF_FIRST_MS 100
#define RUN_BACKOFF_LAST_MS  5000

struct run_history {		/* of a slot */
	bool joined;		/* the process it has, or had last, had joined */
	bool ever;		/* a process of this slot had joined */
	unsigned failed_starts; /* in a row, since a process joined */
};

enum run_next {
	RUN_AGAIN,    /* start it again after the delay */
	RUN_GIVE_UP,  /* this slot is over */
	RUN_STOP_ALL, /* it never came up: stop everything, with its status */
};

/**
 * run_rules_ended - what to do about a copy that ended by itself
 * @status: as waitpid(2) has it
 * @ret_delay_ms: for RUN_AGAIN; 0: at once
 */
enum run_next run_rules_ended(struct run_history *h, enum run_restart restart, int status,
			      int64_t *ret_delay_ms);

/** run_rules_backoff - ms before the n-th try in a row, n from 1: 100 doubling to 5,000 */
int64_t run_rules_backoff(unsigned n);

/** run_rules_exit - the exit status of a shell for it: its own, or 128 + signal */
int run_rules_exit(int status);

/** run_rules_text - "killed by signal 9" or "ended with status 1". Returns buf */
const char *run_rules_text(int status, char *buf, size_t size);

#endif

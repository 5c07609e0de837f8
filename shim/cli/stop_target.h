/* A launcher that is to be stopped, told from a later process of its pid: by a pidfd, or, where
 * there are none (before Linux 5.3), by its pid and the time it was started. */
#ifndef SOCKSHARD_CLI_STOP_TARGET_H
#define SOCKSHARD_CLI_STOP_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "../keeper/wire.h"

struct stop_target {
	struct wire_status_launcher launcher;
	int pidfd;	  /* -1: there is none */
	uint64_t started; /* without a pidfd: process_started() */
};

/** stop_target_open - to be closed by stop_target_close(); false: the process is gone already */
bool stop_target_open(const struct wire_status_launcher *l, struct stop_target *ret);

/** stop_target_close - forget it */
void stop_target_close(struct stop_target *t);

/** stop_target_wait - has it ended: at once, or within this time (-1: whenever it does) */
bool stop_target_wait(const struct stop_target *t, int ms);

/** stop_target_term - SIGTERM to it: 0, too when it has ended; -errno */
int stop_target_term(const struct stop_target *t);

#endif

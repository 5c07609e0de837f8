/* `sockshard check --run`: run a command for a while, apart, and say what it did. */
#ifndef SOCKSHARD_CLI_CHECK_RUN_H
#define SOCKSHARD_CLI_CHECK_RUN_H

#include "../policy/policy.h"
#include "library.h"
#include "variables.h"

#define CHECK_RUN_SECONDS     5
#define CHECK_RUN_SECONDS_MAX 3600

struct check_run {
	const struct policy *policy;
	const char *policy_text; /* what it was made of */
	char **argv;		 /* the command's words, ends with NULL */
	const char *path;	 /* what is executed */
	const char *self;	 /* this very command */
	const struct library *library;
	bool workers_shared; /* SOCKSHARD_WORKERS=shared */
	long seconds;
};

/**
 * check_run - the dry run and its report on stdout
 *
 * The command runs under the library in a network namespace of its own, with a keeper of its own;
 * never in the caller's. When this returns, everything that was started has ended. Returns an exit
 * status: 0 all works; CLI_UNAVAILABLE; 1 the output could not be written; 128 + a signal that
 * ended it early.
 */
int check_run(const struct check_run *how);

#endif

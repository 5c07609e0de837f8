/* The command line of `sockshard run`. */
#ifndef SOCKSHARD_CLI_RUN_OPTIONS_H
#define SOCKSHARD_CLI_RUN_OPTIONS_H

#include <stdbool.h>

#include "options.h"

#define RUN_COPIES_MAX 1024 /* BUCKETS_MAX: every slot can own a bucket */

enum run_restart { RUN_RESTART_ALWAYS, RUN_RESTART_ON_FAILURE, RUN_RESTART_NO };
enum run_show { RUN_SHOW_NOTHING, RUN_SHOW_HELP, RUN_SHOW_VERSION };

struct run_options {
	enum run_show show; /* asked for instead of a run */
	long copies;	    /* 0: auto */
	const char *policy; /* NULL: not given */
	const char *group;  /* NULL: not given */
	bool pin, prefix;
	long grace_ms;
	int stop_signal;
	enum run_restart restart;
	char **command; /* of argv, ends with NULL; at least one word */
};

/**
 * run_options_read - every option and the command, with defaults for what is not given
 * @argv: argv[0] is "run"; ends with NULL
 *
 * Returns 0; -EINVAL; -ENOTSUP for what this version does not have; both with one line in error.
 */
int run_options_read(char **argv, struct run_options *ret, char error[OPTIONS_ERROR_MAX]);

#endif

/* The SOCKSHARD_* variables as the command reads them: all checked at start, before anything is
 * done. */
#ifndef SOCKSHARD_CLI_VARIABLES_H
#define SOCKSHARD_CLI_VARIABLES_H

#include <stdbool.h>

#include "../keeper/client.h"
#include "options.h"

/* Pointers into the environment; NULL: not set. */
struct variables {
	const char *policy;
	const char *group;
	const char *keeper; /* an abstract name; NULL: the ordinary ones */
	const char *log;
	const char *command;
	const char *library;
	bool keeper_off;
	bool strict;
};

/**
 * variables_read - check and take every SOCKSHARD_* variable but the policy's text
 *
 * Nothing is taken in secure mode (secure_getenv(3)). Returns 0; -EINVAL for a bad value; -ENOTSUP
 * for one that this version does not support; both with one line in error.
 */
int variables_read(struct variables *ret, char error[OPTIONS_ERROR_MAX]);

/** variables_group - is it a group's name: 1 to 63 of A-Z a-z 0-9 . _ -; 0, -EINVAL and error */
int variables_group(const char *name, const char *value, char error[OPTIONS_ERROR_MAX]);

/** variables_keeper - is it an abstract unix name: 1 to 107 visible ASCII characters; as above */
int variables_keeper(const char *name, const char *value, char error[OPTIONS_ERROR_MAX]);

/** variables_where - where the keeper is; command NULL: do not start one */
struct keeper_where variables_where(const struct variables *v, const char *command);

#endif

/* What a dry run starts: the keeper, the command under filter and library, the file for their log.
 */
#ifndef SOCKSHARD_CLI_CHECK_START_H
#define SOCKSHARD_CLI_CHECK_START_H

#include <limits.h>
#include <sys/types.h>

#include "check_run.h"

struct check_start_log {
	char folder[200],
		path[256]; /* a private folder, a file in it that every user may write to */
};

/** check_start_log_open - make folder and file, and set SOCKSHARD_LOG to it; 0 or -errno */
int check_start_log_open(struct check_start_log *log);

/** check_start_log_text - what is in it, at most max bytes; malloc'ed; NULL: it cannot be read */
char *check_start_log_text(const struct check_start_log *log, size_t max);

/** check_start_log_close - remove both */
void check_start_log_close(const struct check_start_log *log);

/** check_start_keeper - a keeper of our network, in a session of its own; 0 when it listens, -errno
 */
int check_start_keeper(const char *self, const struct check_start_log *log, pid_t *ret_pid);

/**
 * check_start_command - start the command in a session of its own, its output on our stderr
 * @ret_listener: where its calls are reported, see check_watch.h
 *
 * Returns 0; an exit status, with the reason on stderr.
 */
int check_start_command(const struct check_run *how, pid_t *ret_pid, int *ret_listener);

#endif

/* What the subcommands share: exit codes, the lines for the operator, where our own files are. */
#ifndef SOCKSHARD_CLI_CLI_H
#define SOCKSHARD_CLI_CLI_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "variables.h"

#define CLI_USAGE	 64  /* sysexits.h: usage or policy */
#define CLI_UNAVAILABLE	 69  /* sysexits.h: what was asked for is impossible here */
#define CLI_NOT_RUNNABLE 126 /* as a shell */
#define CLI_NOT_FOUND	 127 /* as a shell */

/** one subcommand: argv[0] is its name; returns the exit status */
int cli_run(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_keeper(int argc, char **argv);
int cli_stop(int argc, char **argv);

/** cli_say - "sockshard: TEXT\n" on stderr, whatever SOCKSHARD_LOG says; one write(2) */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** cli_help - the help of a subcommand, or of the whole for NULL, on stdout; returns 0 or 1 */
int cli_help(const char *subcommand);

/** cli_version - "sockshard VERSION" on stdout; returns 0 or 1 */
int cli_version(void);

/**
 * cli_read - a subcommand's words, and the variables
 * @take: called with @to for each option, operand and "--", behind which nothing is read; returns
 * 0, or -errno and o->error
 *
 * Returns -1: go on; else the exit status: help or version were shown, or what is wrong was said.
 */
int cli_read(char **argv, const struct options_spec *specs,
	     int (*take)(struct options *o, int id, void *to), void *to, struct variables *ret);

/** cli_take_group - what cli_read() met is the name of a group, one at most, or an error */
int cli_take_group(struct options *o, int id, const char *allowed, const char **ret_group);

/** cli_now_ms - monotonic time */
int64_t cli_now_ms(void);

/** cli_self - path of this very command, by /proc/self/exe; 0, -errno */
int cli_self(char ret_path[PATH_MAX]);

#endif

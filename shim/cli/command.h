/* The command that `run` is to start: where it is, and whether a preload can reach it. Looks at
 * files only; starts nothing. */
#ifndef SOCKSHARD_CLI_COMMAND_H
#define SOCKSHARD_CLI_COMMAND_H

#include <limits.h>

#include "elf.h"

#define COMMAND_TEXT_MAX (2 * PATH_MAX + 400)

enum command_verdict {
	COMMAND_FITS,
	COMMAND_NOT_FOUND,
	COMMAND_NOT_EXECUTABLE,
	COMMAND_STATIC,
	COMMAND_SETUID,	 /* or setgid */
	COMMAND_CAPABLE, /* file capabilities */
	COMMAND_GO,
	COMMAND_FOREIGN_MACHINE,
	COMMAND_FOREIGN_LIBC,
};

struct command_report {
	enum command_verdict verdict;
	int status;	       /* exit status of a refusal: 0, 69, 126 or 127 */
	char path[PATH_MAX];   /* what would be executed, with a slash in it; empty: not found */
	char judged[PATH_MAX]; /* the program it ends in: path, or the interpreter of a script */
	char text[COMMAND_TEXT_MAX]; /* one line: the verdict, the reason, the way out */
};

/**
 * command_find - what execvp(3) would execute
 * @search: PATH, or NULL for the system's own
 * Returns 0; -ENOENT; -EACCES when a file of that name is there but may not be executed.
 */
int command_find(const char *command, const char *search, char ret_path[PATH_MAX]);

/**
 * command_inspect - find a command and say whether the library can be preloaded into it
 * @library: what the library is; NULL: not known, then machine and libc are not compared
 *
 * A script is judged by its interpreter (execve(2); of /usr/bin/env by the program it names), up to
 * four deep. A file that may be executed but not read is let through.
 */
void command_inspect(const char *command, const char *search, const struct elf_info *library,
		     struct command_report *ret_report);

#endif

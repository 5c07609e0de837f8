/* Where libsockshard.so is. */
#ifndef SOCKSHARD_CLI_LIBRARY_H
#define SOCKSHARD_CLI_LIBRARY_H

#include <limits.h>

#include "elf.h"

#define LIBRARY_NAME	"libsockshard.so"
#define LIBRARY_WHY_MAX (3u * PATH_MAX)

struct library {
	char path[PATH_MAX];
	struct elf_info elf;
};

/**
 * library_find - beside the command, else in ../lib/sockshard/, else by SOCKSHARD_LIBRARY
 * @self: path of the command
 * @variable: value of SOCKSHARD_LIBRARY or NULL
 * @ret_why: on failure one line that names what was tried
 *
 * Never by the current folder or PATH. Returns 0; -ENOENT; -EBADMSG for a file that is no library;
 * -EINVAL for a path that LD_PRELOAD cannot carry (ld.so(8): spaces and colons separate).
 */
int library_find(const char *self, const char *variable, struct library *ret_library,
		 char ret_why[LIBRARY_WHY_MAX]);

#endif

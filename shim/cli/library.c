/* Finds the library that goes with this command. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "library.h"

static int use(const char *path, struct library *ret_library, char ret_why[LIBRARY_WHY_MAX])
{
	int r = elf_inspect_file(path, &ret_library->elf);

	if (r != 0) {
		snprintf(ret_why, LIBRARY_WHY_MAX, "%s is no library: %s", path, strerror(-r));
		return -EBADMSG;
	}
	if (strpbrk(path, " :\t\n") != NULL) {
		snprintf(ret_why, LIBRARY_WHY_MAX,
			 "%s: LD_PRELOAD cannot carry a path with a space or a colon; put the two "
			 "files into another folder",
			 path);
		return -EINVAL;
	}
	snprintf(ret_library->path, sizeof(ret_library->path), "%s", path);
	return 0;
}

int library_find(const char *self, const char *variable, struct library *ret_library,
		 char ret_why[LIBRARY_WHY_MAX])
{
	const char *slash = strrchr(self, '/');
	int folder = slash != NULL ? (int)(slash - self) : 0;
	char beside[PATH_MAX], lib[PATH_MAX];

	snprintf(beside, sizeof(beside), "%.*s/" LIBRARY_NAME, folder, self);
	while (folder > 0 && self[folder - 1] != '/')
		folder--; /* now the parent, with its slash */
	snprintf(lib, sizeof(lib), "%.*slib/sockshard/" LIBRARY_NAME, folder, self);
	if (access(beside, F_OK) == 0)
		return use(beside, ret_library, ret_why);
	if (access(lib, F_OK) == 0)
		return use(lib, ret_library, ret_why);
	if (variable != NULL && access(variable, F_OK) == 0)
		return use(variable, ret_library, ret_why);
	snprintf(ret_why, LIBRARY_WHY_MAX, LIBRARY_NAME " is not there: tried %s, %s and %s%s",
		 beside, lib, variable != NULL ? variable : "SOCKSHARD_LIBRARY",
		 variable != NULL ? " (SOCKSHARD_LIBRARY)" : " (not set)");
	return -ENOENT;
}

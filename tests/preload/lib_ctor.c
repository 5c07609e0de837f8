/* A library that binds and listens in its constructor, before other preloads had theirs. */
#include <stddef.h>

#include "victim.h"

extern int lib_ctor_listener;
int lib_ctor_listener = -1;

__attribute__((constructor)) static void listen_early(void)
{
	const char *port = getenv("VICTIM_PORT");

	/* not in the shell, the launcher or the keeper */
	if (port && strcmp(program_invocation_short_name, "ctor") == 0)
		lib_ctor_listener = victim_listen(atoi(port));
}

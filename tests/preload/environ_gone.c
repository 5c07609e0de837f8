/* Overwrites its arguments and environment, as nginx and setproctitle(3) do, before it binds. */
#include "victim.h"

extern char **environ;

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv);
	char *from = argv[0], *end = from;
	int fd;

	for (int i = 0; i < argc; i++)
		end = argv[i] + strlen(argv[i]) + 1;
	for (char **e = environ; *e; e++)
		end = *e + strlen(*e) + 1;
	memset(from, 'x', (size_t)(end - from - 1));
	end[-1] = '\0';
	environ = NULL;
	fd = victim_listen(port);
	victim_ready();
	victim_serve(fd, -1);
}

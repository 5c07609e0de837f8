/* Listens, forks the process that accepts and exits at once: by exit(3), or by _exit(2) as nginx. */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0) {
		if (argc > 2)
			_exit(0);
		exit(0);
	}
	setsid();
	victim_ready();
	victim_serve(fd, -1);
}

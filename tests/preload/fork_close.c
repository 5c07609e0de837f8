/* Forks children that close the listener and exit in the ordinary way while the parent serves. */
#include <sys/wait.h>

#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			if (i % 2)
				close(fd);
			exit(0);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			die("fork");
	}
	victim_ready();
	victim_serve(fd, -1);
}

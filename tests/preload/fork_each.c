/* Accepts, and forks a child for each connection. */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	signal(SIGCHLD, SIG_IGN);
	victim_ready();
	for (;;) {
		int client = accept(fd, NULL, NULL);
		pid_t pid = client < 0 ? -1 : fork();

		if (pid < 0)
			die("accept or fork");
		if (pid == 0) {
			close(fd);
			victim_answer(client);
			exit(0);
		}
		close(client);
	}
}

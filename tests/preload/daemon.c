/* Becomes a daemon by two forks between listen and accept, as daemons do. */
#include "victim.h"

static void fork_and_go_on(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		_exit(0);
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	fork_and_go_on();
	setsid();
	fork_and_go_on();
	victim_ready();
	victim_serve(fd, -1);
}

/* Starts programs as Python's subprocess does: a vforked child, in the parent's memory, closes the
 * listener and everything else before it executes or ends. */
#include <spawn.h>
#include <sys/wait.h>

#include "victim.h"

extern char **environ;

static void wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		die("child");
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);
	char name[] = "true", *child_argv[] = {name, NULL};

	for (int i = 0; i < 50; i++) {
		posix_spawn_file_actions_t actions;
		pid_t pid = vfork();

		if (pid == 0) {
			close(fd);
			for (int n = FIRST_FD; n < 1024; n++)
				close(n);
			if (i % 2)
				execv("/bin/true", child_argv);
			_exit(0);
		}
		wait_for(pid);
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_addclose(&actions, fd);
		if (posix_spawn(&pid, "/bin/true", &actions, NULL, child_argv, environ) != 0)
			die("posix_spawn");
		posix_spawn_file_actions_destroy(&actions);
		wait_for(pid);
	}
	victim_ready();
	victim_serve(fd, -1);
}

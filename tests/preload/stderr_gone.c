/* Closes its stderr, so that a client becomes descriptor 2, and then does what gives log lines: binds
 * an address twice, closes, binds again. What the client gets must be our answer alone. */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	close(2);
	victim_ready();
	for (;;) {
		int client = accept(fd, NULL, NULL), other;

		if (client != 2)
			_exit(3);
		other = socket(AF_INET, SOCK_STREAM, 0);
		if (bind_port(other, port) == 0)
			_exit(4);
		close(other);
		close(victim_listen(port + 1));
		victim_answer(client);
	}
}

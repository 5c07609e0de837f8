/* After its first client searches a free port, as FTP servers do, from its own port on and from
 * PORT + 100 on, and says what it found; then serves on.  "found A B" on stdout */
#include "victim.h"

static int search(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	for (int last = port + 50; port < last; port++) {
		if (bind_port(fd, port) < 0) {
			if (errno != EADDRINUSE)
				die("bind");
			continue;
		}
		if (listen(fd, 5) == 0)
			return port;
		if (errno != EADDRINUSE)
			die("listen");
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
	}
	return -1;
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	victim_ready();
	victim_serve(fd, 1);
	printf("found %d %d\n", search(port), search(port + 100));
	fflush(stdout);
	victim_serve(fd, -1);
}

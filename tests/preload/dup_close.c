/* Moves its listener to another number: by dup, dup2, dup3 and F_DUPFD, closing the one before. */
#include <fcntl.h>

#include "victim.h"

static int moved(int fd, int to)
{
	if (to < 0)
		die("dup");
	close(fd);
	return to;
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_bind(port);

	fd = moved(fd, dup(fd));
	if (listen(fd, 64) < 0)
		die("listen");
	fd = moved(fd, dup(fd));
	fd = moved(fd, dup2(fd, 200));
	fd = moved(fd, dup3(fd, 201, O_CLOEXEC));
	fd = moved(fd, fcntl(fd, F_DUPFD, 300));
	fd = moved(fd, fcntl(fd, F_DUPFD_CLOEXEC, 10));
	if (dup2(fd, fd) != fd) /* changes nothing */
		die("dup2 onto itself");
	victim_ready();
	victim_serve(fd, -1);
}

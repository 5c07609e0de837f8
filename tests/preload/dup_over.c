/* Ends its first listener by dup2 of something else over it, then listens on the port again. */
#include <fcntl.h>

#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);
	int other = open("/dev/null", O_RDWR);

	if (other < 0 || dup2(other, fd) != fd)
		die("dup2");
	fd = victim_listen(port);
	if (dup3(other, fd, O_CLOEXEC) != fd)
		die("dup3");
	fd = victim_listen(port);
	victim_ready();
	victim_serve(fd, -1);
}

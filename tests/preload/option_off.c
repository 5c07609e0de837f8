/* Sets SO_REUSEPORT to 0 before bind, after bind and after listen, and SO_REUSEADDR likewise; expects
 * success, and to serve beside its copies. */
#include "victim.h"

static void off(int fd)
{
	int zero = 0;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &zero, sizeof(zero)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &zero, sizeof(zero)) < 0)
		die("setsockopt");
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = socket(AF_INET, SOCK_STREAM, 0);

	off(fd);
	if (bind_port(fd, port) < 0)
		die("bind");
	off(fd);
	if (listen(fd, 64) < 0)
		die("listen");
	off(fd);
	victim_ready();
	victim_serve(fd, -1);
}

/* Shuts its listener down and listens again; and calls listen twice, as nginx does. */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	if (listen(fd, 16) < 0)
		die("second listen");
	if (shutdown(fd, SHUT_RDWR) < 0)
		die("shutdown");
	if (listen(fd, 64) < 0)
		die("listen after shutdown");
	victim_ready();
	victim_serve(fd, -1);
}

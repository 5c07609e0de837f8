/* Closes its only listener and says so; then waits for the end of stdin. The port must be free. */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);
	char c;

	victim_ready();
	victim_serve(fd, 1);
	close(fd);
	printf("closed\n");
	fflush(stdout);
	return read(0, &c, 1) < 0;
}

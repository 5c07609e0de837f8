/* The ordinary little server: accept(fd, NULL, NULL), and without an end of its own.
 *   simple PORT [COUNT]   ends after COUNT connections, by return from main */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	victim_ready();
	victim_serve(fd, argc > 2 ? atoi(argv[2]) : -1);
	return 0;
}

/* Has descriptors for its listener and one connection, and not one more. */
#include <sys/resource.h>

#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), first = dup(0);
	struct rlimit limit = {.rlim_cur = (rlim_t)first + 2, .rlim_max = (rlim_t)first + 2};

	close(first);
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
	first = victim_listen(port);
	victim_ready();
	victim_serve(first, -1);
}

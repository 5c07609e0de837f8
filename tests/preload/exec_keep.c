/* Executes itself with the listener kept open, and accepts in the new program. */
#include "victim.h"

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd;
	char number[16];

	if (argc > 2) {
		victim_ready();
		victim_serve(atoi(argv[2]), -1);
	}
	fd = victim_listen(port);
	snprintf(number, sizeof(number), "%d", fd);
	execl("/proc/self/exe", argv[0], argv[1], number, (char *)NULL);
	die("exec");
}

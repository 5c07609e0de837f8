/* Tests the answers to a second bind of its own address, TCP and UDP; then serves. */
#include "victim.h"

static void refused(int type, int port, const char *what)
{
	int fd = socket(AF_INET, type, 0);

	if (fd < 0)
		die("socket");
	if (bind_port(fd, port) == 0 || errno != EADDRINUSE) {
		fprintf(stderr, "victim: %s: a second bind was not refused\n", what);
		_exit(1);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_bind(port), udp;

	refused(SOCK_STREAM, port, "tcp, bound");
	if (listen(fd, 64) < 0)
		die("listen");
	refused(SOCK_STREAM, port, "tcp, listening");
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	if (udp < 0 || bind_port(udp, port) < 0)
		die("udp bind");
	refused(SOCK_DGRAM, port, "udp");
	close(udp);
	victim_ready();
	victim_serve(fd, -1);
}

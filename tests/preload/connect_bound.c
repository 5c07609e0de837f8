/* A client with a fixed source port.  connect_bound PORT SOURCE [udp]
 * Connects, answers what its options are ("reuseport 0"), tries the same source port with a second
 * socket ("second: Address already in use"), says "local SOURCE", and stays until stdin ends. */
#include <netinet/in.h>

#include "victim.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = victim_address(victim_port(argc, argv)), local;
	struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: the next client wants the port too */
	socklen_t len = sizeof(int);
	int type = argc > 3 ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(AF_INET, type, 0), second, value = -1;
	char text[64];

	if (argc < 3 || bind_port(fd, atoi(argv[2])) < 0)
		die("bind");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		die("SO_LINGER");
	if (getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &len) < 0)
		die("getsockopt");
	printf("reuseport %d\n", value);
	len = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &len) < 0)
		die("getsockopt");
	printf("reuseaddr %d\n", value);
	second = socket(AF_INET, type, 0);
	printf("second: %s\n", bind_port(second, atoi(argv[2])) < 0 ? strerror(errno) : "bound");
	close(second);
	len = sizeof(local);
	if (getsockname(fd, (struct sockaddr *)&local, &len) < 0)
		die("getsockname");
	printf("local %d\n", ntohs(local.sin_port));
	if (type == SOCK_DGRAM && send(fd, "?", 1, 0) != 1)
		die("send");
	printf("answer %s\n", recv(fd, text, sizeof(text), 0) > 0 ? "came" : "missing");
	fflush(stdout);
	return read(0, text, 1) < 0;
}

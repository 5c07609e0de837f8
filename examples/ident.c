/* A server for looking at shards: answers every HTTP request with its slot number, and knows
 * nothing of sharing ports. Serves `make demo` where there is no python3. sockshard run -n 4 --
 * ident 8080 {slot} & curl 127.0.0.1:8080/ */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int listen_on(const char *port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == -1 ||
	    listen(fd, 128) == -1) {
		perror("ident");
		exit(1);
	}
	return fd;
}

static void answer(int client, const char *slot)
{
	struct timeval patience = {.tv_sec = 2};
	char request[2048], response[160];
	int n;

	/* a small request comes in one piece; what is in it makes no difference */
	(void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (recv(client, request, sizeof(request), 0) <= 0)
		return;
	n = snprintf(response, sizeof(response),
		     "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n%s\n", slot);
	(void)send(client, response, (size_t)n, MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
	int listener;

	if (argc != 3 || strlen(argv[2]) > 40) {
		fputs("usage: ident PORT SLOT\n", stderr);
		return 64;
	}
	listener = listen_on(argv[1]);
	for (;;) {
		int client = accept(listener, NULL, NULL);

		if (client == -1)
			continue;
		answer(client, argv[2]);
		close(client);
	}
}

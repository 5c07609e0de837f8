/* The smallest server: accept, read, write, close, one connection after another, and blocking.
 *   serve PORT plain|share [STAMPS]
 * share: it sets SO_REUSEPORT itself. STAMPS: the file of stamps.h. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stamps.h"

#define BACKLOG 1024

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int listen_on(int port, int share)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0)
		die("socket");
	if (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &share, sizeof(share)) < 0)
		die("SO_REUSEPORT");
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("bind");
	if (listen(fd, BACKLOG) < 0)
		die("listen");
	return fd;
}

/* "N\n" is answered by "N \n": chaos/client.c wants the number and a word. */
static void answer(int fd)
{
	char line[64];
	ssize_t n = read(fd, line, sizeof(line) - 1);

	if (n < 1)
		return;
	line[n - 1] = ' ';
	line[n] = '\n';
	(void)!write(fd, line, (size_t)n + 1);
}

int main(int argc, char **argv)
{
	struct stamps *stamps;
	int listener;

	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	stamps = stamps_open(argc > 3 ? argv[3] : NULL);
	listener = listen_on(atoi(argv[1]), strcmp(argv[2], "share") == 0);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		stamps_note(stamps, fd);
		answer(fd);
		close(fd);
	}
}

/* What the victims share: little servers that know nothing of us, each with one habit that a preload
 * can break on. Usage of all: VICTIM PORT [...]; "ready" on stdout when clients may come; each
 * connection is answered with the process id and lasts until the client ends it. */
#ifndef VICTIM_H
#define VICTIM_H

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 3

static inline void die(const char *what)
{
	fprintf(stderr, "victim: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static inline int victim_port(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		_exit(2);
	return atoi(argv[1]);
}

static inline struct sockaddr_in victim_address(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

/* 0 or -1 and errno */
static inline int bind_port(int fd, int port)
{
	struct sockaddr_in a = victim_address(port);

	return bind(fd, (struct sockaddr *)&a, sizeof(a));
}

static inline int victim_bind(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		die("socket");
	if (bind_port(fd, port) < 0)
		die("bind");
	return fd;
}

static inline int victim_listen(int port)
{
	int fd = victim_bind(port);

	if (listen(fd, 64) < 0)
		die("listen");
	return fd;
}

static inline void victim_ready(void)
{
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		_exit(1);
}

/* answers one client and waits for its end */
static inline void victim_answer(int fd)
{
	char text[32], rest[64];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) == n)
		while (recv(fd, rest, sizeof(rest), 0) > 0)
			;
	close(fd);
}

/* count < 0: for ever */
static inline void victim_serve(int listener, int count)
{
	while (count < 0 || count-- > 0) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			die("accept");
		victim_answer(fd);
	}
}

#endif

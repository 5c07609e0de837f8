/* Times single calls, natively or preloaded: bench.py runs one of each kind and asks them in turn.
 *   calls PORT          then lines "WHAT N" on stdin; each is answered by nanoseconds per call
 *   calls PORT WHAT N   once, for callgrind
 *   calls PORT shard    listens and waits for its end
 * lib_empty.c below libsockshard.so makes the marked accept4() and close() calls empty. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "empty.h"

#define BATCH 100 /* connections or descriptors at a time: less than the backlog */

static int listener;
static struct sockaddr_in address = {.sin_family = AF_INET};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int bound_socket(unsigned port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((unsigned short)port);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("bind");
	return fd;
}

static double accept_nothing(unsigned n)
{
	double start = now_ns();

	for (unsigned i = 0; i < n; i++)
		if (accept4(listener, NULL, NULL, SOCK_CLOEXEC) != -1 || errno != EAGAIN)
			die("accept4");
	return (now_ns() - start) / n;
}

static double accept_connections(unsigned n)
{
	struct linger reset = {.l_onoff = 1};
	double taken = 0;
	int client[BATCH], fd[BATCH];

	for (unsigned done = 0; done < n; done += BATCH) {
		double start;

		for (unsigned i = 0; i < BATCH; i++) {
			client[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (connect(client[i], (struct sockaddr *)&address, sizeof(address)) < 0)
				die("connect");
		}
		start = now_ns();
		for (unsigned i = 0; i < BATCH; i++)
			fd[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		taken += now_ns() - start;
		for (unsigned i = 0; i < BATCH; i++) {
			if (fd[i] < 0)
				die("accept4");
			setsockopt(client[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
			close(client[i]);
			close(fd[i]);
		}
	}
	return taken / n;
}

static double close_nothing(unsigned n)
{
	double start = now_ns();

	for (unsigned i = 0; i < n; i++)
		close(-1);
	return (now_ns() - start) / n;
}

static double close_files(unsigned n)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd[BATCH];
	double taken = 0;

	for (unsigned done = 0; done < n; done += BATCH) {
		double start;

		for (unsigned i = 0; i < BATCH; i++)
			fd[i] = dup(null);
		start = now_ns();
		for (unsigned i = 0; i < BATCH; i++)
			close(fd[i]);
		taken += now_ns() - start;
	}
	close(null);
	return taken / n;
}

static double accept_empty(unsigned n)
{
	double start = now_ns();

	for (unsigned i = 0; i < n; i++)
		if (accept4(listener, NULL, NULL, EMPTY_FLAG) != EMPTY_FD)
			die("lib_empty is not there");
	return (now_ns() - start) / n;
}

static double close_empty(unsigned n)
{
	double start = now_ns();

	for (unsigned i = 0; i < n; i++)
		if (close(EMPTY_FD) != 0)
			die("lib_empty is not there");
	return (now_ns() - start) / n;
}

/* A listener of another port from its birth to its end: the sum of one kind of call. */
static double one_listener(unsigned n, char kind)
{
	unsigned port = ntohs(address.sin_port);
	double t[4], taken = 0;
	int fd;

	for (unsigned i = 0; i < n; i++) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		address.sin_port = htons((unsigned short)(port + 1));
		t[0] = now_ns();
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			die("bind");
		t[1] = now_ns();
		if (listen(fd, 128) < 0)
			die("listen");
		t[2] = now_ns();
		close(fd);
		t[3] = now_ns();
		taken += kind == 'b' ? t[1] - t[0] : kind == 'l' ? t[2] - t[1] : t[3] - t[2];
	}
	address.sin_port = htons((unsigned short)port);
	return taken / n;
}

static double bind_one(unsigned n)
{
	return one_listener(n, 'b');
}

static double listen_one(unsigned n)
{
	return one_listener(n, 'l');
}

static double close_one(unsigned n)
{
	return one_listener(n, 'c');
}

static double measure(const char *what, unsigned n)
{
	static const struct {
		const char *name;
		double (*run)(unsigned n);
	} kinds[] = {
		{"accept-nothing", accept_nothing},
		{"accept-connections", accept_connections},
		{"accept-empty", accept_empty},
		{"close-nothing", close_nothing},
		{"close-files", close_files},
		{"close-empty", close_empty},
		{"bind", bind_one},
		{"listen", listen_one},
		{"close-listener", close_one},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(what, kinds[i].name) == 0)
			return kinds[i].run(n);
	fprintf(stderr, "calls: unknown: %s\n", what);
	exit(2);
}

int main(int argc, char **argv)
{
	char what[32];
	unsigned n;

	if (argc < 2)
		return 2;
	listener = bound_socket((unsigned)atoi(argv[1]));
	if (listen(listener, 2 * BATCH) < 0)
		die("listen");
	puts("ready");
	fflush(stdout);
	if (argc == 3)
		for (;;)
			pause();
	if (argc == 4)
		return measure(argv[2], (unsigned)atoi(argv[3])) < 0;
	while (scanf("%31s %u", what, &n) == 2) {
		printf("%.3f\n", measure(what, n));
		fflush(stdout);
	}
	return 0;
}

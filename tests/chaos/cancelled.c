/* A server whose threads may be cancelled in accept only. At SIGUSR1 all are, and others are made.
 *   cancelled ADDRESS PORT
 * The answer to LINE: LINE SLOT PID */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 2

static int listener;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void answer(int fd)
{
	const char *slot = getenv("SOCKSHARD_SLOT");
	char line[64], text[128];
	ssize_t n = recv(fd, line, sizeof(line) - 1, 0);

	if (n > 0) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		n = snprintf(text, sizeof(text), "%s %s %d\n", line, slot ? slot : "-", (int)getpid());
		(void)send(fd, text, (size_t)n, MSG_NOSIGNAL);
	}
	close(fd);
}

static void *serve(void *unused)
{
	for (;;) {
		int fd;

		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		fd = accept(listener, NULL, NULL);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		if (fd >= 0)
			answer(fd);
	}
	return unused;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	pthread_t thread[THREADS];
	sigset_t usr1;
	int number;

	if (argc != 3 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		return 2;
	address.sin_port = htons((uint16_t)atoi(argv[2]));
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 511) < 0)
		die("listen");
	for (;;) {
		for (int i = 0; i < THREADS; i++)
			if (pthread_create(&thread[i], NULL, serve, NULL) != 0)
				die("pthread_create");
		if (sigwait(&usr1, &number) != 0)
			die("sigwait");
		for (int i = 0; i < THREADS; i++)
			pthread_cancel(thread[i]);
		for (int i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
	}
}

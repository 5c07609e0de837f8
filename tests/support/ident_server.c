/* A server that knows nothing of us and answers who it is: "SLOT PID\n". TCP connections stay open
 * until the client ends them, so that clients can use the same source port again.
 *   ident_server tcp|udp ADDRESS PORT [block|epoll] [v6only] [reuseport] */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char answer[64];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t read_address(const char *text, const char *port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)atoi(port));
		return sizeof(*v6);
	}
	if (inet_pton(AF_INET, text, &v4->sin_addr) != 1) {
		fprintf(stderr, "ident_server: bad address %s\n", text);
		exit(2);
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons((uint16_t)atoi(port));
	return sizeof(*v4);
}

/* answers once what a client sent; false when the client has ended */
static bool serve(int fd)
{
	char question[256];
	ssize_t n = recv(fd, question, sizeof(question), 0);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	return send(fd, answer, strlen(answer), MSG_NOSIGNAL) > 0;
}

static void serve_blocking(int listener)
{
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
			die("accept");
		while (fd >= 0 && serve(fd))
			;
		if (fd >= 0)
			close(fd);
	}
}

static void serve_epoll(int listener)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
	int poller = epoll_create1(EPOLL_CLOEXEC);

	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
		die("epoll");
	for (;;) {
		if (epoll_wait(poller, &event, 1, -1) < 1)
			continue;
		if (event.data.fd == listener) {
			int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

			event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
			if (fd >= 0 && epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
				die("epoll_ctl");
		} else if (!serve(event.data.fd)) {
			close(event.data.fd);
		}
	}
}

static void serve_udp(int fd)
{
	for (;;) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		char question[2048];

		if (recvfrom(fd, question, sizeof(question), 0, (struct sockaddr *)&from, &len) < 0)
			continue;
		sendto(fd, answer, strlen(answer), 0, (struct sockaddr *)&from, len);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	bool epolls = false, udp;
	socklen_t len;
	int fd, on = 1;

	if (argc < 4) {
		fprintf(stderr, "usage: ident_server tcp|udp ADDRESS PORT [block|epoll] [v6only] "
		                "[reuseport]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	snprintf(answer, sizeof(answer), "%s %d\n",
	         getenv("SOCKSHARD_SLOT") ? getenv("SOCKSHARD_SLOT") : "-", (int)getpid());
	udp = strcmp(argv[1], "udp") == 0;
	len = read_address(argv[2], argv[3], &address);
	fd = socket(address.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	for (int i = 4; i < argc; i++) {
		if (strcmp(argv[i], "epoll") == 0)
			epolls = true;
		if (strcmp(argv[i], "v6only") == 0 &&
		    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
			die("IPV6_V6ONLY");
		if (strcmp(argv[i], "reuseport") == 0 &&
		    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
			die("SO_REUSEPORT");
	}
	if (epolls && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		die("O_NONBLOCK");
	if (bind(fd, (struct sockaddr *)&address, len) < 0)
		die("bind");
	if (!udp && listen(fd, 128) < 0)
		die("listen");
	printf("ready\n");
	fflush(stdout);
	if (udp)
		serve_udp(fd);
	if (epolls)
		serve_epoll(fd);
	serve_blocking(fd);
}

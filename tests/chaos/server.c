/* A server that knows nothing of us, with every usual way to wait for connections. One connection
 * at a time and thread: reads a line, works, answers, closes.
 *   server ADDRESS PORT MODE [WORD...]
 * MODE: block; poll, select (then a blocking accept); two (poll of PORT and PORT + 1);
 *       level, edge (epoll, non-blocking);
 *       exclusive (threads with an epoll each, EPOLLEXCLUSIVE); oneshot (threads on one epoll)
 * WORD: work=MS backlog=N threads=N defer v6only device=NAME
 *       accept=plain|null|short|flags (flags: accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC)
 * The answer to "GET ..." is a small page, to any other LINE:
 *   LINE SLOT PID ADDRESS-OF-ACCEPT GETPEERNAME NONBLOCK CLOEXEC */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 16
#define BATCH       64
#define LINE_MS     20000

enum how { PLAIN, NO_ADDRESS, SHORT_ADDRESS, FLAGS };

struct client {
	int fd;
	struct sockaddr_storage from; /* as accept said */
	socklen_t len;
};

static int listener, second, shared_poller;
static enum how how;
static int work_ms;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static bool take(struct client *c)
{
	struct sockaddr *from = (struct sockaddr *)&c->from;

	memset(&c->from, 0, sizeof(c->from));
	c->len = how == SHORT_ADDRESS ? 4 : sizeof(c->from);
	switch (how) {
	case NO_ADDRESS:
		c->len = 0;
		c->fd = accept(listener, NULL, NULL);
		break;
	case FLAGS:
		c->fd = accept4(listener, from, &c->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	default:
		c->fd = accept(listener, from, &c->len);
	}
	if (c->fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		die("accept");
	return c->fd >= 0;
}

static void name_of(const struct sockaddr_storage *ss, socklen_t len, bool whole, char *text,
                    size_t size)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)ss;
	char address[INET6_ADDRSTRLEN] = "?";

	if (!whole) { /* what lies behind the room that accept was given must be as it was */
		bool over = how == SHORT_ADDRESS && v4->sin_addr.s_addr != 0;

		snprintf(text, size, "%u%s", (unsigned)len, over ? "+overwritten" : "");
		return;
	}
	if (ss->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &v6->sin6_addr, address, sizeof(address));
	else if (ss->ss_family == AF_INET)
		inet_ntop(AF_INET, &v4->sin_addr, address, sizeof(address));
	snprintf(text, size, "[%s]:%d/%u", address, ntohs(v4->sin_port), (unsigned)len);
}

static bool read_line(int fd, char *line, size_t size)
{
	size_t got = 0;

	while (got + 1 < size) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, LINE_MS) < 1)
			return false;
		n = recv(fd, line + got, size - 1 - got, 0);
		if (n <= 0)
			return false;
		got += (size_t)n;
		line[got] = '\0';
		if (strchr(line, '\n')) {
			line[strcspn(line, "\r\n")] = '\0';
			return true;
		}
	}
	return false;
}

static void serve(const struct client *c)
{
	static const char page[] =
		"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
	struct timespec work = {.tv_sec = work_ms / 1000, .tv_nsec = work_ms % 1000 * 1000000L};
	const char *slot = getenv("SOCKSHARD_SLOT");
	char line[512], answer[1024], said[80], peer[80] = "?";
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (read_line(c->fd, line, sizeof(line))) {
		if (work_ms)
			nanosleep(&work, NULL);
		name_of(&c->from, c->len, how == PLAIN || how == FLAGS, said, sizeof(said));
		if (getpeername(c->fd, (struct sockaddr *)&ss, &len) == 0)
			name_of(&ss, len, true, peer, sizeof(peer));
		if (strncmp(line, "GET ", 4) == 0)
			snprintf(answer, sizeof(answer), "%s", page);
		else
			snprintf(answer, sizeof(answer), "%s %s %d %s %s %d %d\n", line,
			         slot ? slot : "-", (int)getpid(), said, peer,
			         !!(fcntl(c->fd, F_GETFL) & O_NONBLOCK),
			         !!(fcntl(c->fd, F_GETFD) & FD_CLOEXEC));
		send(c->fd, answer, strlen(answer), MSG_NOSIGNAL);
	}
	close(c->fd);
}

static void *serve_blocking(void *unused)
{
	struct client c;

	for (;;)
		if (take(&c))
			serve(&c);
	return unused;
}

static void *serve_poll(void *unused)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	struct client c;

	for (;;)
		if (poll(&p, 1, -1) == 1 && take(&c))
			serve(&c);
	return unused;
}

/* Whoever blocks in accept at one of them leaves the other alone. */
static void *serve_two(void *unused)
{
	struct pollfd p[2] = {{.fd = listener, .events = POLLIN}, {.fd = second, .events = POLLIN}};
	struct client c;

	for (;;) {
		if (poll(p, 2, -1) < 1)
			continue;
		for (int i = 0; i < 2; i++) {
			listener = p[i].fd;
			if (p[i].revents && take(&c))
				serve(&c);
		}
	}
	return unused;
}

static void *serve_select(void *unused)
{
	struct client c;

	for (;;) {
		fd_set set;

		FD_ZERO(&set);
		FD_SET(listener, &set);
		if (select(listener + 1, &set, NULL, NULL, NULL) == 1 && take(&c))
			serve(&c);
	}
	return unused;
}

static int make_poller(unsigned events)
{
	struct epoll_event event = {.events = events, .data.fd = listener};
	int poller = epoll_create1(EPOLL_CLOEXEC);

	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
		die("epoll");
	return poller;
}

/* One a time each wake-up: what is left shows in the next, as level triggering promises. */
static void serve_each_wake(int poller)
{
	struct epoll_event event;
	struct client c;

	for (;;)
		if (epoll_wait(poller, &event, 1, -1) == 1 && take(&c))
			serve(&c);
}

static void *serve_level(void *unused)
{
	serve_each_wake(make_poller(EPOLLIN));
	return unused;
}

static void *serve_exclusive(void *unused)
{
	serve_each_wake(make_poller(EPOLLIN | EPOLLEXCLUSIVE));
	return unused;
}

/* All that wait at each edge, until EAGAIN; what is left behind would show only with the next. */
static void *serve_edge(void *unused)
{
	int poller = make_poller(EPOLLIN | EPOLLET);
	struct epoll_event event;
	struct client c[BATCH];

	for (;;) {
		bool more = epoll_wait(poller, &event, 1, -1) == 1;

		while (more) {
			unsigned n = 0;

			while (n < BATCH && (more = take(&c[n])))
				n++;
			for (unsigned i = 0; i < n; i++)
				serve(&c[i]);
		}
	}
	return unused;
}

static void *serve_oneshot(void *unused)
{
	struct epoll_event event;
	struct client c;

	for (;;) {
		bool taken;

		if (epoll_wait(shared_poller, &event, 1, -1) != 1)
			continue;
		taken = take(&c);
		event = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.fd = listener};
		if (epoll_ctl(shared_poller, EPOLL_CTL_MOD, listener, &event) < 0)
			die("epoll_ctl");
		if (taken)
			serve(&c);
	}
	return unused;
}

static const struct mode {
	const char *name;
	void *(*loop)(void *);
	bool blocks;
	int threads;
} modes[] = {
	{"block", serve_blocking, true, 1},    {"poll", serve_poll, true, 1},
	{"two", serve_two, true, 1},
	{"select", serve_select, true, 1},     {"level", serve_level, false, 1},
	{"edge", serve_edge, false, 1},        {"exclusive", serve_exclusive, false, 3},
	{"oneshot", serve_oneshot, false, 3},
};

static const struct mode *find_mode(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(modes[i].name, name) == 0)
			return &modes[i];
	fprintf(stderr, "server: bad mode %s\n", name);
	exit(2);
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
		fprintf(stderr, "server: bad address %s\n", text);
		exit(2);
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons((uint16_t)atoi(port));
	return sizeof(*v4);
}

static void set(int level, int name, const void *value, socklen_t len)
{
	if (setsockopt(listener, level, name, value, len) < 0)
		die("setsockopt");
}

static void read_word(const char *word, int *backlog, int *threads)
{
	static const char *const accepts[] = {
		[PLAIN] = "plain", [NO_ADDRESS] = "null", [SHORT_ADDRESS] = "short",
		[FLAGS] = "flags"};
	int on = 1, seconds = 5;

	if (sscanf(word, "work=%d", &work_ms) == 1 || sscanf(word, "backlog=%d", backlog) == 1 ||
	    sscanf(word, "threads=%d", threads) == 1)
		return;
	if (strcmp(word, "defer") == 0)
		set(IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
	else if (strcmp(word, "v6only") == 0)
		set(IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	else if (strncmp(word, "device=", 7) == 0)
		set(SOL_SOCKET, SO_BINDTODEVICE, word + 7, (socklen_t)strlen(word + 7));
	else if (strncmp(word, "accept=", 7) == 0)
		for (int i = PLAIN; i <= FLAGS; i++)
			how = strcmp(word + 7, accepts[i]) == 0 ? (enum how)i : how;
	else
		fprintf(stderr, "server: bad word %s\n", word), exit(2);
}

static void begin_listening(const struct sockaddr_storage *address, socklen_t len, int backlog)
{
	if (bind(listener, (const struct sockaddr *)address, len) < 0)
		die("bind");
	if (listen(listener, backlog) < 0)
		die("listen");
}

int main(int argc, char **argv)
{
	const struct mode *mode;
	struct sockaddr_storage address;
	int backlog = 511, threads;
	socklen_t len;

	if (argc < 4) {
		fprintf(stderr, "server: the head of server.c says how\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	mode = find_mode(argv[3]);
	threads = mode->threads;
	len = read_address(argv[1], argv[2], &address);
	listener = socket(address.ss_family,
	                  SOCK_STREAM | SOCK_CLOEXEC | (mode->blocks ? 0 : SOCK_NONBLOCK), 0);
	if (listener < 0)
		die("socket");
	for (int i = 4; i < argc; i++)
		read_word(argv[i], &backlog, &threads);
	begin_listening(&address, len, backlog);
	if (mode->loop == serve_two) {
		int first = listener;

		((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)(atoi(argv[2]) + 1));
		second = listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		begin_listening(&address, len, backlog);
		listener = first;
	}
	if (mode->loop == serve_oneshot)
		shared_poller = make_poller(EPOLLIN | EPOLLONESHOT);
	printf("ready\n");
	fflush(stdout);
	for (int i = 1; i < threads && i < THREADS_MAX; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, mode->loop, NULL) != 0)
			die("pthread_create");
	}
	mode->loop(NULL);
	return 0;
}

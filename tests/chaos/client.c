/* A load client that tells what became of every connection: many at a time, one request each.
 * Failures go to a log with the client's own port and times, so that the driver can tell whose.
 *   client [-a ADDRESS]... -p PORT [-c AT A TIME] [-n TOTAL | -t SECONDS] [-m http|line|raw]
 *          [-q QUESTION] [-e ENDING] [-T TIMEOUT MS] [-s SLOW MS] [-o LOG]
 * http: a complete reply 200; line: one line that begins with the number sent, then the end;
 * raw: QUESTION (\r \n \\ are understood), and a reply that ends with ENDING.
 * TERM: no new ones. The log has a line for each failed or slow connection:
 *   OUTCOME FAMILY PORT BEGIN END BYTES      times in ns of CLOCK_MONOTONIC; bytes received
 * The last line of the output is a JSON object of counts and times. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ADDRESSES 8
#define REPLY_MAX 4096
#define MS        INT64_C(1000000)

enum outcome { OK, REFUSED, RESET, CUT, SHORT, TIMEOUT, WRONG, LOCAL, OUTCOMES };

static const char *const names[OUTCOMES] = {
	"ok",
	"refused",
	"reset",   /* before any byte */
	"cut",     /* reset after some bytes */
	"short",   /* closed by the server before the reply was complete */
	"timeout",
	"wrong",   /* a complete reply, but not the one asked for */
	"local",   /* no connection could be tried: out of ports or descriptors */
};

enum mode { HTTP, LINE, RAW };

struct target {
	struct sockaddr_storage ss;
	socklen_t len;
};

static struct options {
	struct target to[ADDRESSES];
	unsigned n_to, clients;
	uint64_t total;
	int64_t seconds, timeout_ns, slow_ns;
	enum mode mode;
	char question[512], ending[64];
	const char *log;
} options = {.clients = 64, .timeout_ns = 30000 * MS, .slow_ns = 7000 * MS};

struct conn {
	int fd; /* -1: free */
	bool asked;
	int family, port;
	uint64_t id;
	int64_t begin;
	size_t got;
	char reply[REPLY_MAX];
};

static struct conn *conns;
static int poller;
static FILE *failures;
static uint64_t started, ended, count[OUTCOMES], slow;
static uint32_t *times_us;
static size_t n_times, room_times;
static volatile sig_atomic_t stopping;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

static void on_term(int number)
{
	(void)number;
	stopping = 1;
}

static void note_time(int64_t ns)
{
	if (n_times == room_times) {
		room_times = room_times ? room_times * 2 : 65536;
		times_us = realloc(times_us, room_times * sizeof(*times_us));
		if (!times_us)
			die("realloc");
	}
	times_us[n_times++] = (uint32_t)(ns / 1000);
}

/* Linger was set to 0 at birth: the port is free at once, with no TIME_WAIT at either end. */
static void finish(struct conn *c, enum outcome outcome)
{
	int64_t now = now_ns(), took = now - c->begin;

	count[outcome]++;
	ended++;
	if (outcome == OK)
		note_time(took);
	if (outcome == OK && took >= options.slow_ns)
		slow++;
	if (outcome != OK || took >= options.slow_ns)
		fprintf(failures, "%s %d %d %lld %lld %zu\n",
		        outcome == OK ? "slow" : names[outcome], c->family == AF_INET6 ? 6 : 4,
		        c->port, (long long)c->begin, (long long)now, c->got);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void begin(struct conn *c, unsigned index)
{
	const struct target *t = &options.to[started % options.n_to];
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct epoll_event event = {.events = EPOLLOUT, .data.u32 = index};
	struct sockaddr_storage own;
	socklen_t len = sizeof(own);

	c->id = started++;
	c->begin = now_ns();
	c->asked = false;
	c->got = 0;
	c->port = 0;
	c->family = t->ss.ss_family;
	c->fd = socket(c->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0) {
		finish(c, LOCAL);
		return;
	}
	if (connect(c->fd, (const struct sockaddr *)&t->ss, t->len) < 0 && errno != EINPROGRESS) {
		finish(c, errno == ECONNREFUSED ? REFUSED : errno == ECONNRESET ? RESET : LOCAL);
		return;
	}
	if (getsockname(c->fd, (struct sockaddr *)&own, &len) == 0)
		c->port = ntohs(((struct sockaddr_in *)&own)->sin_port); /* where IPv6 has it too */
	if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
		die("epoll_ctl");
}

static size_t question(const struct conn *c, char *text, size_t size)
{
	if (options.mode == LINE)
		return (size_t)snprintf(text, size, "%llu\n", (unsigned long long)c->id);
	return (size_t)snprintf(text, size, "%s", options.question);
}

static enum outcome failure(const struct conn *c, int error)
{
	if (error == ECONNREFUSED)
		return REFUSED;
	if (error == ETIMEDOUT)
		return TIMEOUT;
	return c->got ? CUT : RESET;
}

/* Requests are far shorter than any send buffer: all of it goes at once. */
static void ask(struct conn *c, unsigned index)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
	char text[sizeof(options.question)];
	size_t n = question(c, text, sizeof(text));
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error) {
		finish(c, failure(c, error));
		return;
	}
	if (send(c->fd, text, n, MSG_NOSIGNAL) != (ssize_t)n) {
		finish(c, failure(c, errno));
		return;
	}
	c->asked = true;
	if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0)
		die("epoll_ctl");
}

/* OUTCOMES: not complete yet */
static enum outcome judge_http(const struct conn *c, bool end)
{
	const char *body = strstr(c->reply, "\r\n\r\n"), *length;

	if (!body)
		return end ? SHORT : OUTCOMES;
	if (strncmp(c->reply, "HTTP/1.", 7) != 0 || strncmp(c->reply + 8, " 200 ", 5) != 0)
		return WRONG;
	length = strcasestr(c->reply, "\r\ncontent-length:");
	if (!length || length > body)
		return end ? OK : OUTCOMES;
	if (strtoul(length + 17, NULL, 10) <= strlen(body + 4))
		return OK;
	return end ? SHORT : OUTCOMES;
}

/* Only the end tells that nobody else answers as well. */
static enum outcome judge_line(const struct conn *c, bool end)
{
	const char *line_end = strchr(c->reply, '\n');
	char *number_end;

	if (!end)
		return OUTCOMES;
	if (!line_end)
		return SHORT;
	if (strtoull(c->reply, &number_end, 10) != c->id || *number_end != ' ')
		return WRONG;
	if (line_end[1] != '\0')
		return WRONG;
	return OK;
}

static enum outcome judge_raw(const struct conn *c, bool end)
{
	size_t n = strlen(options.ending);

	if (c->got >= n && strcmp(c->reply + c->got - n, options.ending) == 0)
		return OK;
	return end ? SHORT : OUTCOMES;
}

static void receive(struct conn *c)
{
	static enum outcome (*const judge[])(const struct conn *, bool) = {
		[HTTP] = judge_http, [LINE] = judge_line, [RAW] = judge_raw};
	ssize_t n = recv(c->fd, c->reply + c->got, sizeof(c->reply) - 1 - c->got, 0);
	enum outcome outcome;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		finish(c, failure(c, errno));
		return;
	}
	c->got += (size_t)n;
	c->reply[c->got] = '\0';
	outcome = judge[options.mode](c, n == 0);
	if (outcome == OUTCOMES && c->got == sizeof(c->reply) - 1)
		outcome = WRONG;
	if (outcome != OUTCOMES)
		finish(c, outcome);
}

static void end_late_ones(void)
{
	int64_t now = now_ns();

	for (unsigned i = 0; i < options.clients; i++)
		if (conns[i].fd >= 0 && now - conns[i].begin >= options.timeout_ns)
			finish(&conns[i], TIMEOUT);
}

static bool more_to_start(int64_t since)
{
	if (stopping || (options.total && started >= options.total))
		return false;
	return !options.seconds || now_ns() - since < options.seconds * 1000 * MS;
}

static void run(void)
{
	struct epoll_event events[256];
	int64_t since = now_ns(), looked = since;

	for (;;) {
		bool more = more_to_start(since);
		int n;

		for (unsigned i = 0; more && i < options.clients; i++)
			if (conns[i].fd < 0) {
				begin(&conns[i], i);
				more = more_to_start(since);
			}
		if (!more && started == ended)
			return;
		n = epoll_wait(poller, events, 256, 100);
		for (int i = 0; i < n; i++) {
			struct conn *c = &conns[events[i].data.u32];

			if (c->fd < 0)
				continue;
			if (c->asked)
				receive(c);
			else
				ask(c, events[i].data.u32);
		}
		if (now_ns() - looked >= 100 * MS) {
			looked = now_ns();
			end_late_ones();
		}
	}
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double part_ms(double part)
{
	return n_times ? times_us[(size_t)(part * (double)(n_times - 1))] / 1000.0 : 0;
}

static void report(int64_t took)
{
	qsort(times_us, n_times, sizeof(*times_us), by_size);
	printf("{");
	for (int i = 0; i < OUTCOMES; i++)
		printf("\"%s\": %llu, ", names[i], (unsigned long long)count[i]);
	printf("\"total\": %llu, \"slow\": %llu, \"seconds\": %.2f, ", (unsigned long long)ended,
	       (unsigned long long)slow, (double)took / 1e9);
	printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n", part_ms(0.5),
	       part_ms(0.99), part_ms(1));
}

static void unescape(const char *text, char *ret, size_t size)
{
	size_t n = 0;

	for (; *text && n + 1 < size; text++) {
		if (*text == '\\' && text[1]) {
			text++;
			ret[n++] = *text == 'r' ? '\r' : *text == 'n' ? '\n' : *text;
		} else {
			ret[n++] = *text;
		}
	}
	ret[n] = '\0';
}

static void add_target(const char *text, unsigned port)
{
	struct target *t = &options.to[options.n_to];
	struct sockaddr_in *v4 = (struct sockaddr_in *)&t->ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&t->ss;

	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		t->len = sizeof(*v6);
	} else if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		t->len = sizeof(*v4);
	} else {
		fprintf(stderr, "client: bad address %s\n", text);
		exit(2);
	}
	options.n_to++;
}

static void read_options(int argc, char **argv)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	const char *addresses[ADDRESSES] = {"127.0.0.1"};
	unsigned n = 0, port = 0;
	int o;

	memcpy(options.question, http, sizeof(http));
	while ((o = getopt(argc, argv, "a:p:c:n:t:m:q:e:T:s:o:")) != -1) {
		switch (o) {
		case 'a':
			if (n < ADDRESSES)
				addresses[n++] = optarg;
			break;
		case 'p':
			port = (unsigned)atoi(optarg);
			break;
		case 'c':
			options.clients = (unsigned)atoi(optarg);
			break;
		case 'n':
			options.total = strtoull(optarg, NULL, 10);
			break;
		case 't':
			options.seconds = atoi(optarg);
			break;
		case 'm':
			options.mode = *optarg == 'h' ? HTTP : *optarg == 'l' ? LINE : RAW;
			break;
		case 'q':
			unescape(optarg, options.question, sizeof(options.question));
			break;
		case 'e':
			unescape(optarg, options.ending, sizeof(options.ending));
			break;
		case 'T':
			options.timeout_ns = atoi(optarg) * MS;
			break;
		case 's':
			options.slow_ns = atoi(optarg) * MS;
			break;
		case 'o':
			options.log = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (!port || optind != argc || options.clients == 0) {
		fprintf(stderr, "client: the head of client.c says how\n");
		exit(2);
	}
	for (unsigned i = 0; i < (n ? n : 1); i++)
		add_target(addresses[i], port);
}

int main(int argc, char **argv)
{
	struct sigaction term = {.sa_handler = on_term};
	int64_t since;

	read_options(argc, argv);
	sigaction(SIGTERM, &term, NULL);
	failures = options.log ? fopen(options.log, "w") : stderr;
	conns = calloc(options.clients, sizeof(*conns));
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (!failures || !conns || poller < 0)
		die("client");
	setvbuf(failures, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < options.clients; i++)
		conns[i].fd = -1;
	since = now_ns();
	run();
	report(now_ns() - since);
	return 0;
}

/* A client with fixed source ports. A flow is a client's address and port: asked again from the
 * same port, it shows whether it has moved to another shard. flows PORT FIRST COUNT SECONDS asks
 * 127.0.0.1:PORT for / from each of the COUNT source ports from FIRST on, and prints for each a
 * line "SOURCE-PORT WORD": the first word of the page, "-" without an answer. Ends after SECONDS at
 * the latest (killed by SIGALRM). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char request[] = "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";

static int connect_from(unsigned source, unsigned port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	struct timeval patience = {.tv_sec = 3};
	struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: the next round needs the port */
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd == -1)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons((uint16_t)source);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
		addr.sin_port = htons((uint16_t)port);
		if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			return fd;
	}
	close(fd);
	return -1;
}

/* The first word of the page, or "-". */
static void ask(int fd, char word[32])
{
	char text[2048], *page;
	size_t n = 0;
	ssize_t more;

	strcpy(word, "-");
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		return;
	while (n < sizeof(text) - 1 && (more = recv(fd, text + n, sizeof(text) - 1 - n, 0)) > 0)
		n += (size_t)more;
	text[n] = '\0';
	page = strstr(text, "\r\n\r\n");
	if (page == NULL || sscanf(page, " %31s", word) != 1)
		strcpy(word, "-");
}

int main(int argc, char **argv)
{
	unsigned long value[4];

	for (int i = 0; i < 4; i++) {
		char *end = NULL;

		value[i] = argc == 5 ? strtoul(argv[i + 1], &end, 10) : 0;
		if (end == NULL || *end != '\0' || value[i] == 0 || value[i] > 65535) {
			fputs("usage: flows PORT FIRST COUNT SECONDS\n", stderr);
			return 64;
		}
	}
	(void)alarm((unsigned)value[3]);
	for (unsigned source = (unsigned)value[1]; source < value[1] + value[2]; source++) {
		char word[32] = "-";
		int fd = connect_from(source, (unsigned)value[0]);

		if (fd != -1) {
			ask(fd, word);
			close(fd);
		}
		printf("%u %s\n", source, word);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

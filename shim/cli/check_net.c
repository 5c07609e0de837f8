/* See check_net.h. Format: proc(5), /proc/net/tcp. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check_net.h"

#define LISTENING	  0x0a /* TCP_LISTEN */
#define FIRST_ROUND_MS	  300
#define BETWEEN_ROUNDS_MS 500

/* Addresses stand there as 32-bit words of the machine's own order. */
static bool read_ip(const char *hex, size_t n, uint8_t *ret)
{
	char word[9];
	size_t i;

	if (n != 8 && n != 32)
		return false;
	for (i = 0; i < n / 8; i++) {
		uint32_t value;

		memcpy(word, hex + 8 * i, 8);
		word[8] = '\0';
		value = (uint32_t)strtoul(word, NULL, 16);
		memcpy(ret + 4 * i, &value, 4);
	}
	return true;
}

bool check_net_line(const char *line, struct addr *ret_addr, uint64_t *ret_inode,
		    unsigned *ret_waiting)
{
	unsigned port, state, waiting;
	unsigned long long inode;
	struct addr a;
	char ip[40];

	memset(&a, 0, sizeof(a));
	if (sscanf(line,
		   "%*d: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*x:%x %*x:%*x %*x %*d %*d %llu",
		   ip, &port, &state, &waiting, &inode) != 5)
		return false;
	if (state != LISTENING || port > 65535 || !read_ip(ip, strlen(ip), a.ip))
		return false;
	a.proto = IPPROTO_TCP;
	a.family = strlen(ip) == 8 ? AF_INET : AF_INET6;
	a.port = (uint16_t)port;
	*ret_addr = a;
	*ret_inode = inode;
	*ret_waiting = waiting;
	return true;
}

void check_net_listeners(struct check_dry *d)
{
	static const char *const paths[] = {"/proc/self/net/tcp", "/proc/self/net/tcp6"};
	char line[512];
	size_t i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		FILE *f = fopen(paths[i], "re");
		struct addr addr;
		uint64_t inode;
		unsigned waiting;

		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			if (check_net_line(line, &addr, &inode, &waiting))
				check_dry_listens(d, inode, &addr, waiting);
		}
		if (f != NULL)
			fclose(f);
	}
}

static int knock(const struct addr *addr)
{
	struct addr to = *addr;
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;

	if (addr_is_wildcard(&to)) {
		memset(to.ip, 0, sizeof(to.ip));
		if (to.family == AF_INET)
			memcpy(to.ip, "\x7f\0\0\1", 4);
		else
			to.ip[15] = 1;
	}
	fd = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	len = addr_to_sockaddr(&to, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) {
		close(fd);
		return -ECONNREFUSED;
	}
	/* With TCP_DEFER_ACCEPT nobody is accepted before it has said something. */
	(void)send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	return fd;
}

static void note_visit(struct check_dry *d, const struct addr *addr)
{
	size_t i;

	for (i = 0; i < d->n_sockets; i++) {
		if (check_dry_same(&d->sockets[i].addr, addr))
			d->sockets[i].visited = true;
	}
}

static void add_address(struct check_net_clients *c, const struct addr *addr, int64_t now_ms)
{
	size_t i;

	for (i = 0; i < c->n; i++) {
		if (check_dry_same(&c->at[i].addr, addr))
			return;
	}
	if (c->n == sizeof(c->at) / sizeof(c->at[0]))
		return;
	c->at[c->n].addr = *addr;
	c->at[c->n].rounds = 0;
	c->at[c->n++].next_at = now_ms + FIRST_ROUND_MS;
}

void check_net_visit(struct check_net_clients *c, struct check_dry *d, int64_t now_ms)
{
	size_t i;
	int k;

	check_net_leave(c);
	for (i = 0; i < d->n_sockets; i++) {
		if (d->sockets[i].listens)
			add_address(c, &d->sockets[i].addr, now_ms);
	}
	for (i = 0; i < c->n; i++) {
		if (c->at[i].rounds == CHECK_NET_ROUNDS || now_ms < c->at[i].next_at)
			continue;
		c->at[i].rounds++;
		c->at[i].next_at = now_ms + BETWEEN_ROUNDS_MS;
		note_visit(d, &c->at[i].addr);
		for (k = 0; k < CHECK_NET_ROUND; k++) {
			int fd = knock(&c->at[i].addr);

			if (fd >= 0)
				c->fds[c->n_fds++] = fd;
		}
	}
}

void check_net_leave(struct check_net_clients *c)
{
	while (c->n_fds > 0)
		close(c->fds[--c->n_fds]);
}

/* Finding the keeper and asking it. Deadlines are the socket's own (SO_RCVTIMEO): after a server has
 * sandboxed itself, recvmsg and sendmsg are the only calls we make. */
#include "client.h"

#include <errno.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../util/version.h"
#include "peer.h"

static int set_deadline(const struct sys *sys, int fd, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (sys->setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == -1 ||
	    sys->setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == -1)
		return -errno;
	return 0;
}

/* One name: 0 and a connection to a keeper of the right user, or -errno. */
static int connect_name(const struct sys *sys, const struct keeper_where *where, unsigned k,
                        struct keeper_client *ret)
{
	struct sockaddr_un sun;
	socklen_t len = peer_address(where->name, where->uid, k, &sun);
	uint32_t uid = 0, pid = 0;
	int fd, r;

	if (len == 0)
		return -EINVAL;
	fd = sys->socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -errno;
	r = set_deadline(sys, fd, KEEPER_DEADLINE_MS);
	if (r == 0 && sys->connect(fd, (struct sockaddr *)&sun, len) == -1)
		r = -errno;
	if (r == 0)
		r = peer_identify(sys, fd, &uid, &pid);
	if (r == 0 && !peer_is(uid, pid, where->uid))
		r = -EPERM;
	if (r < 0) {
		sys->close(fd);
		return r;
	}
	memset(ret, 0, sizeof(*ret));
	ret->fd = fd;
	ret->keeper_pid = pid;
	return 0;
}

/* -ENOENT: no keeper of ours; -EPERM: and no name left for one. */
static int find(const struct sys *sys, const struct keeper_where *where, struct keeper_client *ret)
{
	unsigned names = where->name ? 1 : KEEPER_NAMES, foreign = 0;

	for (unsigned k = 0; k < names; k++) {
		int r = connect_name(sys, where, k, ret);

		if (r == -EPERM)
			foreign++;
		else if (r == -EAGAIN || r == -EINPROGRESS)
			return -ETIMEDOUT; /* its backlog is full or it is stopped */
		else if (r != -ECONNREFUSED)
			return r;
	}
	return foreign == names ? -EPERM : -ENOENT;
}

int keeper_look(const struct sys *sys, const struct keeper_where *where, unsigned k)
{
	struct keeper_client c;
	int r = connect_name(sys, where, k, &c);

	if (r == 0)
		sys->close(c.fd);
	return r;
}

static int hello(const struct sys *sys, struct keeper_client *client, unsigned role, int pidfd)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_HELLO;
	p.body.hello.version_min = p.body.hello.version_max = WIRE_VERSION;
	p.body.hello.role = role;
	p.body.hello.pid = (uint32_t)getpid();
	strcpy(p.body.hello.version, SOCKSHARD_VERSION);
	if (pidfd >= 0) {
		p.fds[0] = pidfd;
		p.n_fds = 1;
	}
	r = keeper_ask(sys, client, &p);
	wire_close_fds(sys, &p);
	if (r < 0)
		return r;
	client->hello = p.body.hello;
	client->hello.version[sizeof(client->hello.version) - 1] = '\0';
	client->hello.service[sizeof(client->hello.service) - 1] = '\0';
	return 0;
}

int keeper_connect(const struct sys *sys, const struct keeper_where *where, unsigned role, int pidfd,
                   struct keeper_client *ret_client)
{
	struct keeper_client c = { .fd = -1 };
	int r = -ENOENT;

	/* A keeper that ends because it was idle may take our connection with it: once more then. */
	for (int attempt = 0; attempt < 3; attempt++) {
		r = find(sys, where, &c);
		if (r == -ENOENT && where->command) {
			r = keeper_start(sys, where);
			if (r == 0)
				r = find(sys, where, &c);
		}
		if (r < 0)
			return r;
		r = hello(sys, &c, role, pidfd);
		if (r == 0) {
			*ret_client = c;
			return 0;
		}
		sys->close(c.fd);
		if (r != -ECONNRESET && r != -EPIPE)
			return r;
	}
	return r;
}

int keeper_tell(const struct sys *sys, struct keeper_client *client, struct wire_packet *packet)
{
	packet->head.seq = ++client->seq;
	packet->head.result = 0;
	return wire_send(sys, client->fd, packet, 0);
}

int keeper_ask(const struct sys *sys, struct keeper_client *client, struct wire_packet *packet)
{
	int r = keeper_tell(sys, client, packet);

	packet->n_fds = 0; /* the caller's stay the caller's */
	if (r < 0)
		return r == -EAGAIN ? -EBUSY : r;
	return keeper_hear(sys, client, packet);
}

int keeper_hear(const struct sys *sys, struct keeper_client *client, struct wire_packet *packet)
{
	int r;

	for (;;) {
		r = wire_receive(sys, client->fd, 0, packet);
		if (r == 0)
			return -ECONNRESET;
		if (r < 0)
			return r == -EAGAIN ? -ETIMEDOUT : r;
		if (packet->head.seq == client->seq)
			return packet->head.result;
		wire_close_fds(sys, packet); /* an event, or the answer to what timed out before */
	}
}

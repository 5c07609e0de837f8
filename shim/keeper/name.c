/* See name.h. */
#include "name.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client.h"
#include "peer.h"

#define LOOKS   100 /* at a name that is bound while nobody listens, once each millisecond */
#define LOOK_MS 1

static int listen_as(const struct sys *sys, int fd, const struct keeper_where *where, unsigned k)
{
	struct sockaddr_un sun;
	socklen_t len = peer_address(where->name, where->uid, k, &sun);

	if (sys->bind(fd, (struct sockaddr *)&sun, len) == -1)
		return -errno;
	return sys->listen(fd, NAME_BACKLOG) == -1 ? -errno : 0;
}

/* One that was started at the same moment has bound its name, and will listen right away: with the next
 * name there would be two keepers of one user. Somebody else's may never listen. */
static int take(const struct sys *sys, int fd, const struct keeper_where *where, unsigned k)
{
	int r;

	for (int look = 0; look < LOOKS; look++) {
		r = listen_as(sys, fd, where, k);
		if (r != -EADDRINUSE)
			return r;
		r = keeper_look(sys, where, k);
		if (r == 0 || r == -EAGAIN || r == -EINPROGRESS) /* it may be stopped */
			return -EEXIST;
		if (r != -ECONNREFUSED)
			return r == -EPERM ? -EADDRINUSE : r;
		sys->poll(NULL, 0, LOOK_MS);
	}
	return -EADDRINUSE;
}

int name_listen(const struct sys *sys, const char *name, uint32_t uid)
{
	struct keeper_where where = { .name = name, .uid = uid };
	struct keeper_client other;
	int r = -EADDRINUSE, fd;

	if (keeper_connect(sys, &where, WIRE_CONTROL, -1, &other) == 0) {
		sys->close(other.fd);
		return -EEXIST;
	}
	fd = sys->socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -errno;
	for (unsigned k = 0; r == -EADDRINUSE && k < (name ? 1 : KEEPER_NAMES); k++)
		r = take(sys, fd, &where, k);
	if (r == 0)
		return fd;
	sys->close(fd);
	return r;
}

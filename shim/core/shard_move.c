/* Another socket under the numbers of a listener. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "link.h"
#include "shard_parts.h"

/* What came from the keeper: a socket of the same address, and a listener. */
static int check(const struct sys *sys, const struct shard *s, int fd, uint64_t *ret_cookie)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(int);
	struct addr a;
	int listens = 0;

	if (sys->getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == -1 ||
	    (!listens && s->addr.proto == IPPROTO_TCP))
		return -EPROTO;
	len = sizeof(ss);
	if (sys->getsockname(fd, (struct sockaddr *)&ss, &len) == -1 ||
	    addr_from_sockaddr((struct sockaddr *)&ss, len, &a) < 0)
		return -EPROTO;
	if (a.family != s->addr.family || a.port != s->addr.port ||
	    memcmp(a.ip, s->addr.ip, sizeof(a.ip)) != 0)
		return -EPROTO;
	return os_get()->cookie(sys, fd, ret_cookie);
}

/* What belongs to the open file, not to the socket. */
static int copy_flags(const struct sys *sys, int from, int to)
{
	struct f_owner_ex owner;
	int flags = sys->fcntl(from, F_GETFL), sig;

	if (flags == -1)
		return -errno;
	if (flags & O_ASYNC) {
		sig = sys->fcntl(from, F_GETSIG);
		if (sys->fcntl(from, F_GETOWN_EX, &owner) == -1 ||
		    sys->fcntl(to, F_SETOWN_EX, &owner) == -1 || sig == -1 ||
		    sys->fcntl(to, F_SETSIG, sig) == -1)
			return -errno;
	}
	return sys->fcntl(to, F_SETFL, flags) == -1 ? -errno : 0;
}

static void watch(const struct sys *sys, const struct shard_watches *watches, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct shard_watch *w = &watches->w[i];
		struct epoll_event event = { .events = w->events };

		event.data.u64 = w->data;
		if (sys->epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->fd, &event) == -1)
			log_warn("fd %d could not be registered with epoll fd %d again: %s", w->fd,
			         w->epfd, strerror(errno));
	}
}

/* Before the numbers change: afterwards nobody could take them off, and each would wake the server for
 * ever. */
static int unwatch(const struct sys *sys, const struct shard_watches *watches)
{
	for (unsigned i = 0; i < watches->n; i++) {
		const struct shard_watch *w = &watches->w[i];
		struct epoll_event event = { .events = 0 };

		if (sys->epoll_ctl(w->epfd, EPOLL_CTL_DEL, w->fd, &event) == -1) {
			int r = -errno;

			watch(sys, watches, i);
			return r;
		}
	}
	return 0;
}

static int replace(const struct sys *sys, int number, int fd)
{
	int flags = sys->fcntl(number, F_GETFD);

	if (flags == -1 || sys->dup3(fd, number, flags & FD_CLOEXEC ? O_CLOEXEC : 0) == -1)
		return -errno;
	return 0;
}

static int next_number(const struct shard *s, int from)
{
	int n;

	fdtab_lock();
	n = fdtab_number_of(s, from);
	fdtab_unlock();
	return n;
}

int shard_move(const struct sys *sys, struct shard *s, int fd, const struct shard_watches *watches)
{
	uint64_t cookie;
	int r = check(sys, s, fd, &cookie);

	return r < 0 ? r : shard_replace(sys, s, fd, watches);
}

int shard_replace(const struct sys *sys, struct shard *s, int fd, const struct shard_watches *watches)
{
	int first = next_number(s, 0), n, r;
	uint64_t cookie, old = s->cookie, now;

	if (first < 0)
		return -EBADF;
	r = os_get()->cookie(sys, fd, &cookie);
	if (r == 0)
		r = copy_flags(sys, first, fd);
	if (r == 0)
		r = unwatch(sys, watches);
	if (r < 0)
		return r;
	s->moving = cookie; /* other threads see one or the other */
	for (n = first; n >= 0 && r == 0; n = next_number(s, n + 1))
		if (os_get()->cookie(sys, n, &now) == 0 && now == old)
			r = replace(sys, n, fd);
	if (r < 0 && os_get()->cookie(sys, first, &now) == 0 && now == old) {
		s->moving = 0;
	} else {
		if (r < 0)
			log_warn("fd %d and its copies are two sockets now: %s", first, strerror(-r));
		s->cookie = cookie;
		r = 0;
	}
	watch(sys, watches, watches->n);
	if (r == 0)
		sys->close(fd);
	return r;
}

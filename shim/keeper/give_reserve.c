/* The part of give.h that takes connections out of queues: from then on they are gifts. */
#include "give.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/time.h>

#include "fault.h"
#include "member.h"
#include "nudge.h"
#include "snapshot.h"

#define ACCEPT_TICK_US 5000 /* a blocking accept that lost its race ends after so long */

static int end_of(const struct keeper *k, int fd, bool peer, struct addr *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if ((peer ? getpeername(fd, (struct sockaddr *)&ss, &len)
	          : k->sys->getsockname(fd, (struct sockaddr *)&ss, &len)) == -1)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&ss, len, ret);
}

/* O_NONBLOCK belongs to the open file and so to the server: the accept is bounded by a ticking timer
 * instead. Nobody else accepts from an orphan, so that it never has to tick. */
static int accept_bounded(struct keeper *k, int fd, struct addr *ret_peer)
{
	struct itimerval tick = { { 0, ACCEPT_TICK_US }, { 0, ACCEPT_TICK_US } }, off = { { 0, 0 }, { 0, 0 } };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int r;

	if (k->sys->poll(&p, 1, 0) != 1)
		return -EAGAIN;
	(void)setitimer(ITIMER_REAL, &tick, NULL);
	r = k->sys->accept4(fd, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC);
	r = r == -1 ? -errno : r;
	(void)setitimer(ITIMER_REAL, &off, NULL);
	if (r >= 0 && addr_from_sockaddr((struct sockaddr *)&ss, len, ret_peer) < 0)
		memset(ret_peer, 0, sizeof(*ret_peer));
	return r;
}

static int free_gift(const struct keeper *k)
{
	for (int i = 0; i < GIFTS_MAX; i++)
		if (!k->gifts[i].used)
			return i;
	return NONE;
}

/* What came out of a queue is a nudge that woke nobody in time, or a gift. */
static void take(struct keeper *k, int group, uint32_t from, int fd, const struct addr *peer)
{
	struct addr local;
	int gift = free_gift(k), nudge = NONE;

	if (nudge_is_from(k, peer) && end_of(k, fd, false, &local) == 0)
		nudge = nudge_find(k, group, peer, &local);
	if (nudge != NONE)
		nudge_end(k, nudge);
	if (nudge != NONE || gift == NONE) {
		k->sys->close(fd);
		return;
	}
	k->gifts[gift] = (struct gift){ .used = true, .group = group, .from = from, .fd = fd,
		                        .cookie = snapshot_identity(fd), .conn = NONE, .since = k->now,
		                        .id = ++k->last_gift };
	if (k->gift_top <= gift)
		k->gift_top = gift + 1;
}

int give_reserve(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	struct addr peer;
	int fd;

	if (free_gift(k) == NONE)
		return -ENOSPC;
	FAULT(give_accept_before);
	fd = accept_bounded(k, m->fd, &peer);
	FAULT(give_accept_after);
	if (fd < 0)
		return fd;
	take(k, m->group, m->slot, fd, &peer);
	FAULT(give_reserved);
	return 0;
}

/* Is it a connection to this group, made by somebody else? */
static bool belongs(const struct group *g, const struct addr *local)
{
	struct addr a = g->addr;

	return g->used && a.proto == IPPROTO_TCP && a.port == local->port &&
	       (addr_is_wildcard(&a) || addr_same_end(&a, local));
}

bool give_found(struct keeper *k, int fd)
{
	struct addr peer, local;
	int group = NONE;

	memset(&local, 0, sizeof(local));
	if (end_of(k, fd, true, &peer) < 0 || end_of(k, fd, false, &local) < 0)
		return false;
	for (int i = 0; i < k->group_top; i++) /* an exact address before a wildcard */
		if (belongs(&k->groups[i], &local) &&
		    (group == NONE || !addr_is_wildcard(&k->groups[i].addr)))
			group = i;
	if (group == NONE)
		return false;
	take(k, group, UINT32_MAX, fd, &peer);
	return true;
}

bool give_has(const struct keeper *k, uint64_t cookie)
{
	uint64_t c;

	for (int i = 0; i < k->gift_top; i++)
		if (k->gifts[i].used && k->os->cookie(k->sys, k->gifts[i].fd, &c) == 0 && c == cookie)
			return true;
	return false;
}

void give_take_all(struct keeper *k, int member)
{
	while (member_queue(k, &k->members[member]) > 0)
		if (give_reserve(k, member) < 0)
			return;
}

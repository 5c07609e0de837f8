/* See nudge.h: making and sending them. No withdrawal of a nudge that may sit in a queue. */
#include "nudge.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "fault.h"
#include "group.h"
#include "member.h"
#include "snapshot.h"

int nudge_find(const struct keeper *k, int group, const struct addr *peer,
               const struct addr *local)
{
	for (int i = 0; i < k->nudge_top; i++) {
		const struct nudge *n = &k->nudges[i];

		if (n->used && (n->group == NONE || n->group == group) && addr_same_end(&n->peer, peer) &&
		    addr_same_end(&n->local, local))
			return i;
	}
	return NONE;
}

bool nudge_is_from(const struct keeper *k, const struct addr *peer)
{
	struct addr from = addr_unmap(peer);

	for (int i = 0; i < k->nudge_top; i++) {
		struct addr mine = addr_unmap(&k->nudges[i].peer);

		if (k->nudges[i].used && addr_same_end(&mine, &from))
			return true;
	}
	return false;
}

unsigned nudge_outstanding(const struct keeper *k, int member)
{
	unsigned n = 0;

	for (int i = 0; i < k->nudge_top; i++)
		n += k->nudges[i].used && k->nudges[i].member == member;
	return n;
}

bool nudge_all_given_up(const struct keeper *k, int member)
{
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].member == member && !k->nudges[i].gave_up)
			return false;
	return true;
}

unsigned nudge_pending(const struct keeper *k, int group)
{
	unsigned n = 0;

	for (int i = 0; i < k->nudge_top; i++)
		n += k->nudges[i].used && !k->nudges[i].late && !k->nudges[i].probe &&
		     k->nudges[i].group == group;
	return n;
}

/* An address of this machine that reaches the group. */
static void own_address(const struct addr *a, struct addr *ret)
{
	*ret = *a;
	if (!addr_is_wildcard(a))
		return;
	memset(ret->ip, 0, sizeof(ret->ip));
	if (a->family == AF_INET) {
		ret->ip[0] = 127;
		ret->ip[3] = 1;
	} else {
		ret->ip[15] = 1;
	}
}

static int free_nudge(const struct keeper *k)
{
	for (int i = 0; i < NUDGES_MAX; i++)
		if (!k->nudges[i].used)
			return i;
	return -ENOSPC;
}

static int open_nudge(struct keeper *k, struct nudge *n, const struct addr *target)
{
	struct sockaddr_storage ss;
	struct addr from = *target;
	socklen_t len;
	int r;

	from.port = 0;
	len = addr_to_sockaddr(&from, &ss);
	n->fd = k->sys->socket(target->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n->fd == -1)
		return -errno;
	r = k->sys->bind(n->fd, (struct sockaddr *)&ss, len) == -1 ? -errno : 0;
	len = sizeof(ss);
	if (r == 0 && k->sys->getsockname(n->fd, (struct sockaddr *)&ss, &len) == -1)
		r = -errno;
	if (r == 0)
		r = addr_from_sockaddr((struct sockaddr *)&ss, len, &n->peer);
	n->local = *target;
	return r;
}

/* A listener with TCP_DEFER_ACCEPT is not woken before something has come. */
static bool must_speak(const struct keeper *k, const struct nudge *n)
{
	return n->member == NONE ||
	       member_int(k, k->members[n->member].fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) != 0;
}

/* Before the handshake is over it would be taken back (inet_shutdown() of the kernel). */
void nudge_hang_up(struct keeper *k, int nudge)
{
	struct pollfd p = { .fd = k->nudges[nudge].fd, .events = POLLOUT };

	if (k->sys->poll(&p, 1, 0) > 0 && !(p.revents & (POLLERR | POLLHUP)))
		(void)k->sys->shutdown(p.fd, SHUT_WR);
}

static int connect_nudge(struct keeper *k, int nudge)
{
	struct nudge *n = &k->nudges[nudge];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&n->local, &ss);
	int r;

	FAULT(nudge_steered);
	state_commit(k); /* from here on a shard may ask about it */
	FAULT(nudge_before);
	if (k->sys->connect(n->fd, (struct sockaddr *)&ss, len) == -1 && errno != EINPROGRESS) {
		r = -errno;
		nudge_end(k, nudge);
		return r;
	}
	FAULT(nudge_connected);
	k->soon = true;
	if (must_speak(k, n))
		(void)send(n->fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	nudge_hang_up(k, nudge);
	FAULT(nudge_sent);
	return 0;
}

static int new_nudge(struct keeper *k, int group, int member, const struct addr *to)
{
	int i = free_nudge(k), r;
	struct addr target;

	if (i < 0)
		return i;
	memset(&k->nudges[i], 0, sizeof(k->nudges[i]));
	k->nudges[i].group = group;
	k->nudges[i].member = member;
	k->nudges[i].index = WIRE_NO_INDEX;
	k->nudges[i].sent_at = k->now;
	own_address(to, &target);
	r = open_nudge(k, &k->nudges[i], &target);
	FAULT(nudge_opened);
	if (r < 0) {
		if (k->nudges[i].fd >= 0)
			k->sys->close(k->nudges[i].fd);
		return r;
	}
	k->nudges[i].cookie = snapshot_identity(k->nudges[i].fd);
	k->nudges[i].used = true;
	if (k->nudge_top <= i)
		k->nudge_top = i + 1;
	return i;
}

int nudge_anybody(struct keeper *k, int group)
{
	int i = new_nudge(k, group, NONE, &k->groups[group].addr);

	if (i < 0)
		return i;
	nudge_call_all(k, group, true);
	return connect_nudge(k, i);
}

int nudge_prepare(struct keeper *k, int member, bool probe)
{
	struct member *m = &k->members[member];
	int i = new_nudge(k, m->group, member, &k->groups[m->group].addr);

	if (i < 0)
		return i;
	k->nudges[i].probe = probe;
	k->nudges[i].unsent = true;
	page_nudged(&m->page, true);
	return i;
}

int nudge_prepare_index(struct keeper *k, int group, uint16_t index)
{
	int i = new_nudge(k, group, NONE, &k->groups[group].addr);

	if (i < 0)
		return i;
	k->nudges[i].index = index;
	k->nudges[i].changes = k->groups[group].map.changes;
	k->nudges[i].probe = true;
	k->nudges[i].unsent = true;
	nudge_call_all(k, group, true);
	return 0;
}

static bool is_unsent(const struct nudge *n, int group)
{
	return n->used && n->unsent && n->group == group;
}

unsigned nudge_unsent(const struct keeper *k, int group)
{
	unsigned n = 0;

	for (int i = 0; i < k->nudge_top; i++)
		n += is_unsent(&k->nudges[i], group);
	return n;
}

static void send_one(struct keeper *k, int nudge)
{
	struct nudge *n = &k->nudges[nudge];

	n->unsent = false;
	if (connect_nudge(k, nudge) < 0 && !n->probe && n->member != NONE)
		k->members[n->member].deaf = DEAF_MAX;
}

void nudge_send_ruled(struct keeper *k, int group)
{
	for (int i = 0; i < k->nudge_top; i++)
		if (is_unsent(&k->nudges[i], group) && k->nudges[i].ruled)
			send_one(k, i);
}

/* One program for all of them: it is what costs most of a nudge. */
void nudge_send(struct keeper *k, int group)
{
	nudge_send_ruled(k, group);
	if (nudge_unsent(k, group) == 0)
		return;
	group_steer(k, group);
	for (int i = 0; i < k->nudge_top; i++)
		if (is_unsent(&k->nudges[i], group))
			send_one(k, i);
}

void nudge_withdraw(struct keeper *k, int group, unsigned keep)
{
	for (int i = 0; i < k->nudge_top; i++)
		if (is_unsent(&k->nudges[i], group) && !k->nudges[i].probe &&
		    nudge_pending(k, group) > keep)
			nudge_end(k, i);
}

void nudge_probe(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	int i;

	if (nudge_outstanding(k, member) > 0 || member_queue(k, m) > 0)
		return;
	i = nudge_prepare(k, member, true);
	if (i < 0)
		return;
	group_steer(k, m->group);
	send_one(k, i);
}

int nudge_knock(struct keeper *k, const struct addr *addr)
{
	int i;

	for (i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].group == NONE &&
		    k->nudges[i].local.port == addr->port)
			return 0; /* one at a time */
	i = new_nudge(k, NONE, NONE, addr);
	return i < 0 ? i : connect_nudge(k, i);
}

void nudge_wake_ghosts(struct keeper *k, int group)
{
	const struct group *g = &k->groups[group];
	int first = NUDGES_MAX, i;

	for (uint32_t s = 0; g->ghosts > 0 && s < BUCKETS_MAX; s++) {
		if (g->ghost_index[s] == WIRE_NO_INDEX ||
		    (g->mode != WIRE_MODE_HANDOVER && bucket_count(&g->table, (uint16_t)s) == 0))
			continue;
		i = new_nudge(k, group, NONE, &g->addr);
		if (i < 0)
			break;
		k->nudges[i].index = g->ghost_index[s];
		k->nudges[i].probe = true;
		first = i < first ? i : first;
	}
	group_steer(k, group);
	for (i = first; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].group == group &&
		    k->nudges[i].index != WIRE_NO_INDEX)
			(void)connect_nudge(k, i);
}

size_t nudge_rules(struct keeper *k, int group, struct program_rule *ret, size_t max)
{
	size_t n = 0;

	for (int i = 0; i < k->nudge_top && n < max; i++) {
		struct nudge *g = &k->nudges[i];
		int index;

		if (!g->used || g->group != group)
			continue;
		if (g->member != NONE)
			index = index_find(&k->groups[group].map, k->members[g->member].cookie);
		else
			index = g->index != WIRE_NO_INDEX ? (int)g->index : -ENOENT;
		g->ruled = index >= 0;
		if (index < 0)
			continue;
		ret[n].src_port = g->peer.port;
		ret[n++].index = (uint32_t)index;
	}
	return n;
}

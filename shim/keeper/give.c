/* See give.h. No withdrawal of a nudge that may sit in a queue; no gift has two owners: it is sent
 * again only after the end of the connection it was sent to. */
#include "give.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../steer/program.h"
#include "../util/log.h"
#include "fault.h"
#include "group.h"
#include "member.h"
#include "snapshot.h"
#include "stuck.h"

#define UNSTEERED_MS   20   /* the kernel goes on sending to orphans: they are looked at so often */
#define BATCH          16   /* nudges for one program: the first must not wait for too many */
#define ACCEPT_TICK_US 5000 /* a blocking accept that lost its race ends after so long */

/* --- taking connections out of queues */

static bool same_end(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

static int find_nudge(const struct keeper *k, int group, const struct addr *peer,
                      const struct addr *local)
{
	for (int i = 0; i < NUDGES_MAX; i++) {
		const struct nudge *n = &k->nudges[i];

		if (n->used && (n->group == NONE || n->group == group) && same_end(&n->peer, peer) &&
		    same_end(&n->local, local))
			return i;
	}
	return NONE;
}

static int ends_of(const struct keeper *k, int fd, struct addr *ret_peer, struct addr *ret_local)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &len) == -1)
		return -errno;
	if (addr_from_sockaddr((struct sockaddr *)&ss, len, ret_peer) < 0)
		return -EAFNOSUPPORT;
	len = sizeof(ss);
	if (k->sys->getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&ss, len, ret_local);
}

static unsigned outstanding(const struct keeper *k, int member)
{
	unsigned n = 0;

	for (int i = 0; i < NUDGES_MAX; i++)
		n += k->nudges[i].used && k->nudges[i].member == member;
	return n;
}

static unsigned nudges_pending(const struct keeper *k, int group)
{
	unsigned n = 0;

	for (int i = 0; i < NUDGES_MAX; i++)
		n += k->nudges[i].used && !k->nudges[i].gave_up && !k->nudges[i].probe &&
		     k->nudges[i].group == group;
	return n;
}

static void nudge_all(struct keeper *k, int group, bool on)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group && k->members[i].page.at &&
		    (on || outstanding(k, i) == 0))
			page_nudged(&k->members[i].page, on);
}

static void end_nudge(struct keeper *k, int nudge)
{
	struct nudge *n = &k->nudges[nudge];
	struct member *m = &k->members[n->member == NONE ? 0 : n->member];

	state_close(k, n->fd); /* not before it is committed: a worker that dies must still know it */
	n->used = false;
	if (n->member != NONE && m->used && m->page.at && outstanding(k, n->member) == 0)
		page_nudged(&m->page, false);
	if (n->member == NONE && n->group != NONE && nudges_pending(k, n->group) == 0)
		nudge_all(k, n->group, false);
}

/* O_NONBLOCK belongs to the open file and so to the server: the accept is bounded by a ticking timer
 * instead. Nobody else accepts from an orphan, so that it never has to tick. */
static int accept_bounded(struct keeper *k, int fd)
{
	struct itimerval tick = { { 0, ACCEPT_TICK_US }, { 0, ACCEPT_TICK_US } }, off = { { 0, 0 }, { 0, 0 } };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	if (k->sys->poll(&p, 1, 0) != 1)
		return -EAGAIN;
	(void)setitimer(ITIMER_REAL, &tick, NULL);
	r = k->sys->accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	r = r == -1 ? -errno : r;
	(void)setitimer(ITIMER_REAL, &off, NULL);
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
static void take(struct keeper *k, int group, uint32_t from, int fd)
{
	struct addr peer, local;
	int gift = free_gift(k), nudge = NONE;

	if (ends_of(k, fd, &peer, &local) == 0)
		nudge = find_nudge(k, group, &peer, &local);
	if (nudge != NONE)
		end_nudge(k, nudge);
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

/* One waiting connection becomes a gift. -EAGAIN: none waits. */
static int reserve(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	int fd;

	if (free_gift(k) == NONE)
		return -ENOSPC;
	FAULT(give_accept_before);
	fd = accept_bounded(k, m->fd);
	FAULT(give_accept_after);
	if (fd < 0)
		return fd;
	take(k, m->group, m->slot, fd);
	FAULT(give_reserved);
	return 0;
}

/* Is it a connection to this group, made by somebody else? */
static bool belongs(const struct group *g, const struct addr *local)
{
	struct addr a = g->addr;

	return g->used && a.proto == IPPROTO_TCP && a.port == local->port &&
	       (addr_is_wildcard(&a) || same_end(&a, local));
}

bool give_found(struct keeper *k, int fd)
{
	struct addr peer, local;
	int group = NONE;

	memset(&local, 0, sizeof(local));
	if (ends_of(k, fd, &peer, &local) < 0)
		return false;
	for (int i = 0; i < k->group_top; i++) /* an exact address before a wildcard */
		if (belongs(&k->groups[i], &local) &&
		    (group == NONE || !addr_is_wildcard(&k->groups[i].addr)))
			group = i;
	if (group == NONE)
		return false;
	take(k, group, UINT32_MAX, fd);
	return true;
}

/* --- nudging */

static bool can_receive(const struct member *m, int group)
{
	return m->used && m->group == group && m->state == WIRE_LIVE && m->page.at &&
	       member_takes(m) && m->deaf < DEAF_MAX && m->watch_at == NEVER;
}

bool give_has(const struct keeper *k, uint64_t cookie)
{
	uint64_t c;

	for (int i = 0; i < GIFTS_MAX; i++)
		if (k->gifts[i].used && k->os->cookie(k->sys, k->gifts[i].fd, &c) == 0 && c == cookie)
			return true;
	return false;
}

static bool has_receiver(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (can_receive(&k->members[i], group))
			return true;
	return false;
}

/* The live shard with the fewest nudges before it. */
static int choose(const struct keeper *k, int group)
{
	unsigned fewest = 2; /* at a time: one that is served, one that waits */
	int best = NONE;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];
		unsigned n;

		if (!can_receive(m, group))
			continue;
		n = outstanding(k, i);
		if (n < fewest) {
			fewest = n;
			best = i;
		}
	}
	return best;
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

/* Make the connection: one byte, for a listener with TCP_DEFER_ACCEPT. */
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
		end_nudge(k, nudge);
		return r;
	}
	FAULT(nudge_connected);
	(void)send(n->fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
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

/* To wake one shard; it is connected by send_nudges(). */
static int prepare_nudge(struct keeper *k, int member, bool probe)
{
	struct member *m = &k->members[member];
	int i = new_nudge(k, m->group, member, &k->groups[m->group].addr);

	if (i < 0)
		return i;
	k->nudges[i].probe = probe;
	k->nudges[i].unsent = true;
	page_nudged(&m->page, true);
	return 0;
}

static bool is_unsent(const struct nudge *n, int group)
{
	return n->used && n->unsent && n->group == group;
}

static unsigned unsent(const struct keeper *k, int group)
{
	unsigned n = 0;

	for (int i = 0; i < NUDGES_MAX; i++)
		n += is_unsent(&k->nudges[i], group);
	return n;
}

/* The rules are in force before the connections are made: one program for all of them, since it is
 * what costs most of a nudge. */
static void send_nudges(struct keeper *k, int group)
{
	if (unsent(k, group) == 0)
		return;
	group_steer(k, group);
	for (int i = 0; i < NUDGES_MAX; i++) {
		struct nudge *n = &k->nudges[i];

		if (!is_unsent(n, group))
			continue;
		n->unsent = false;
		if (connect_nudge(k, i) < 0 && !n->probe)
			k->members[n->member].deaf = DEAF_MAX;
	}
}

int give_knock(struct keeper *k, const struct addr *addr)
{
	int i;

	for (i = 0; i < NUDGES_MAX; i++)
		if (k->nudges[i].used && k->nudges[i].group == NONE &&
		    k->nudges[i].local.port == addr->port)
			return 0; /* one at a time */
	i = new_nudge(k, NONE, NONE, addr);
	return i < 0 ? i : connect_nudge(k, i);
}

void give_wake_ghosts(struct keeper *k, int group)
{
	const struct group *g = &k->groups[group];
	int first = NUDGES_MAX, i;

	for (uint32_t s = 0; g->ghosts > 0 && s < BUCKETS_MAX; s++) {
		if (g->ghost_index[s] == WIRE_NO_INDEX)
			continue;
		i = new_nudge(k, group, NONE, &g->addr);
		if (i < 0)
			break;
		k->nudges[i].index = g->ghost_index[s];
		k->nudges[i].probe = true;
		first = i < first ? i : first;
	}
	group_steer(k, group);
	for (i = first; i < NUDGES_MAX; i++)
		if (k->nudges[i].used && k->nudges[i].group == group &&
		    k->nudges[i].index != WIRE_NO_INDEX)
			(void)connect_nudge(k, i);
}

static unsigned gifts_waiting(const struct keeper *k, int group)
{
	unsigned n = 0;

	for (int i = 0; i < GIFTS_MAX; i++)
		n += k->gifts[i].used && k->gifts[i].group == group && k->gifts[i].conn == NONE;
	return n;
}

/* The probe in a stuck shard's queue stays there; a nudge that a dead one has not fetched is taken out. */
static bool waits_for_gift(const struct keeper *k, int member)
{
	const struct member *m = &k->members[member];

	return member_queue(k, m) > (m->state == WIRE_STUCK ? outstanding(k, member) : 0);
}

static bool is_source(const struct member *m, int group)
{
	return m->used && m->group == group && m->page.at && m->fd != NONE && !member_takes(m) &&
	       (m->state == WIRE_ORPHAN || m->state == WIRE_DRAINING || m->state == WIRE_STUCK);
}

/* Where nobody can be steered: whoever the kernel's hash takes a nudge to gets a gift. */
static void pump_unsteered(struct keeper *k, int group)
{
	if (!has_receiver(k, group))
		return;
	for (int i = 0; i < k->member_top; i++)
		while (is_source(&k->members[i], group) && waits_for_gift(k, i))
			if (reserve(k, i) < 0)
				break;
	while (gifts_waiting(k, group) > nudges_pending(k, group)) {
		int i = new_nudge(k, group, NONE, &k->groups[group].addr);

		if (i < 0)
			return;
		nudge_all(k, group, true);
		if (connect_nudge(k, i) < 0)
			return;
	}
}

/* One that is only being looked at (a suspect, perhaps dying) may be able to again, or be replaced. */
static bool all_are_deaf(const struct keeper *k, int group)
{
	bool any = false;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!m->used || m->group != group || !member_takes(m))
			continue;
		if (m->deaf < DEAF_MAX)
			return false;
		any = true;
	}
	return any;
}

bool give_is_possible(struct keeper *k, int group)
{
	return !all_are_deaf(k, group) && group_is_heard(k, group);
}

static bool has_source(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (is_source(&k->members[i], group) && waits_for_gift(k, i))
			return true;
	return gifts_waiting(k, group) > 0;
}

/* A nudge for a gift that has none yet. */
static int nudge_one(struct keeper *k, int group)
{
	int to = choose(k, group), r;

	if (to == NONE)
		return -EAGAIN;
	if (gifts_waiting(k, group) <= nudges_pending(k, group))
		return 0;
	r = prepare_nudge(k, to, false);
	if (r < 0)
		k->members[to].deaf = DEAF_MAX;
	else if (unsent(k, group) == BATCH)
		send_nudges(k, group);
	return r;
}

void give_pump(struct keeper *k, int group)
{
	/* In mode shared everybody accepts from the one queue. */
	k->groups[group].pump = k->groups[group].mode != WIRE_MODE_SHARED;
}

static void pump(struct keeper *k, int group)
{
	k->groups[group].pump = false;
	if (k->groups[group].addr.proto != IPPROTO_TCP || !has_source(k, group) ||
	    !group_is_heard(k, group))
		return;
	if (!k->groups[group].steered) {
		pump_unsteered(k, group);
		return;
	}
	for (int i = 0; i < k->member_top; i++) {
		while (is_source(&k->members[i], group) && choose(k, group) != NONE &&
		       waits_for_gift(k, i)) {
			if (gifts_waiting(k, group) <= nudges_pending(k, group) &&
			    reserve(k, i) < 0)
				break;
			nudge_one(k, group);
		}
	}
	while (gifts_waiting(k, group) > nudges_pending(k, group))
		if (nudge_one(k, group) < 0)
			break;
	send_nudges(k, group);
}

void give_run(struct keeper *k)
{
	for (int i = 0; i < k->group_top; i++)
		if (k->groups[i].used && k->groups[i].pump)
			pump(k, i);
}

void give_probe(struct keeper *k, int member)
{
	if (outstanding(k, member) > 0 || waits_for_gift(k, member))
		return;
	if (prepare_nudge(k, member, true) == 0)
		send_nudges(k, k->members[member].group);
}

void give_take_all(struct keeper *k, int member)
{
	while (member_queue(k, &k->members[member]) > 0)
		if (reserve(k, member) < 0)
			return;
}

/* --- the shard's side of it */

/* Who waits longest is given first: else a steady stream of others would overtake it for ever. */
static int oldest_gift(const struct keeper *k, int group)
{
	int oldest = NONE;

	for (int i = 0; i < GIFTS_MAX; i++) {
		const struct gift *g = &k->gifts[i];

		if (g->used && g->group == group && g->conn == NONE &&
		    (oldest == NONE || (int32_t)(g->id - k->gifts[oldest].id) < 0))
			oldest = i;
	}
	return oldest;
}

void give_answer(struct keeper *k, int conn, const struct wire_ask *ask, struct wire_given *ret,
                 int *ret_fd)
{
	struct conn *c = &k->conn[conn];
	int group = c->group, nudge = find_nudge(k, group, &ask->peer, &ask->local), gift;

	memset(ret, 0, sizeof(*ret));
	*ret_fd = NONE;
	if (c->member != NONE)
		stuck_heard(k, c->member);
	if (nudge == NONE)
		return;
	ret->nudge = 1;
	FAULT(ask_known);
	if (k->nudges[nudge].member != NONE)
		k->members[k->nudges[nudge].member].deaf = 0;
	end_nudge(k, nudge);
	gift = oldest_gift(k, group);
	if (gift == NONE)
		return;
	k->gifts[gift].conn = conn;
	ret->gift = k->gifts[gift].id;
	*ret_fd = k->gifts[gift].fd;
	FAULT(ask_chosen);
}

int give_taken(struct keeper *k, int conn, uint32_t gift)
{
	for (int i = 0; i < GIFTS_MAX; i++) {
		struct gift *g = &k->gifts[i];

		if (!g->used || g->id != gift || g->conn != conn)
			continue;
		state_close(k, g->fd); /* asked again, the next worker must still know it */
		g->used = false;
		FAULT(taken);
		if (k->conn[conn].member != NONE)
			k->groups[g->group].slots[k->members[k->conn[conn].member].slot].given++;
		return 0;
	}
	return -ENOENT;
}

void give_conn_ended(struct keeper *k, int conn)
{
	for (int i = 0; i < GIFTS_MAX; i++)
		if (k->gifts[i].used && k->gifts[i].conn == conn)
			k->gifts[i].conn = NONE;
}

void give_call(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	if (m->page.at)
		page_nudged(&m->page, true);
}

void give_call_off(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	if (m->page.at && outstanding(k, member) == 0 && nudges_pending(k, m->group) == 0)
		page_nudged(&m->page, false);
}

void give_member_died(struct keeper *k, int member)
{
	for (int i = 0; i < NUDGES_MAX; i++)
		if (k->nudges[i].used && k->nudges[i].member == member)
			k->nudges[i].gave_up = true;
}

void give_member_ended(struct keeper *k, int member)
{
	for (int i = 0; i < NUDGES_MAX; i++)
		if (k->nudges[i].used && k->nudges[i].member == member)
			end_nudge(k, i);
}

/* Was connect(2) called? Else nobody will ever ask about it. */
static bool is_on_its_way(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state != TCP_CLOSE;
}

void give_restore(struct keeper *k)
{
	for (int i = 0; i < k->gift_top; i++)
		if (k->gifts[i].used && snapshot_identity(k->gifts[i].fd) != k->gifts[i].cookie)
			k->gifts[i].used = false;
	for (int i = 0; i < k->nudge_top; i++) {
		struct nudge *n = &k->nudges[i];

		if (n->used && snapshot_identity(n->fd) != n->cookie)
			n->used = false;
		else if (n->used && !is_on_its_way(n->fd))
			end_nudge(k, i);
	}
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].page.at)
			page_nudged(&k->members[i].page, outstanding(k, i) > 0);
	for (int i = 0; i < k->nudge_top; i++)
		if (k->nudges[i].used && k->nudges[i].member == NONE && k->nudges[i].group != NONE)
			nudge_all(k, k->nudges[i].group, true);
}

size_t give_rules(const struct keeper *k, int group, struct program_rule *ret, size_t max)
{
	size_t n = 0;

	for (int i = 0; i < NUDGES_MAX && n < max; i++) {
		const struct nudge *g = &k->nudges[i];
		int index;

		if (!g->used || g->group != group)
			continue;
		if (g->member != NONE)
			index = index_find(&k->groups[group].map, k->members[g->member].cookie);
		else
			index = g->index != WIRE_NO_INDEX ? (int)g->index : -ENOENT;
		if (index < 0)
			continue;
		ret[n].src_port = g->peer.port;
		ret[n++].index = (uint32_t)index;
	}
	return n;
}

unsigned give_waiting(const struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	unsigned n = member_queue(k, m);

	for (int i = 0; i < GIFTS_MAX; i++)
		n += k->gifts[i].used && k->gifts[i].group == m->group && k->gifts[i].from == m->slot;
	return n;
}

static bool group_has_live(const struct keeper *k, int group)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group)
			return true;
	return false;
}

static void pump_if_due(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];

	if (g->pump_at > k->now)
		return;
	g->pump_at = k->now + (g->steered ? WATCH_MS : UNSTEERED_MS);
	give_pump(k, group);
}

/* What still arrives where nobody accepts: the end of a handshake from before, and without steering
 * any connection. What found nobody to take it is tried again. */
static void pump_sources(struct keeper *k)
{
	for (int i = 0; i < k->member_top; i++)
		if (is_source(&k->members[i], k->members[i].group))
			pump_if_due(k, k->members[i].group);
	for (int i = 0; i < GIFTS_MAX; i++)
		if (k->gifts[i].used && k->gifts[i].conn == NONE)
			pump_if_due(k, k->gifts[i].group);
}

/* All that live are deaf, and have been for as long as anything is held. */
static bool nobody_takes(const struct keeper *k, const struct gift *g)
{
	return g->conn == NONE && all_are_deaf(k, g->group) &&
	       k->now - g->since > k->groups[g->group].hold_ms;
}

void give_on_time(struct keeper *k)
{
	pump_sources(k);
	for (int i = 0; i < NUDGES_MAX; i++) {
		struct nudge *n = &k->nudges[i];
		struct member *m;

		if (!n->used || n->gave_up || n->sent_at + NUDGE_MS > k->now)
			continue;
		if (n->group == NONE) {
			end_nudge(k, i);
			continue;
		}
		n->gave_up = true; /* a busy shard may still fetch it: another is nudged as well */
		if (n->member == NONE) {
			give_pump(k, n->group);
			continue;
		}
		m = &k->members[n->member];
		if (!n->probe && ++m->deaf == DEAF_MAX)
			log_warn("slot %u of group '%s' answers no nudges: waiting connections go to the others",
			         m->slot, k->groups[m->group].name);
		give_pump(k, m->group);
	}
	for (int i = 0; i < GIFTS_MAX; i++) {
		struct gift *g = &k->gifts[i];

		if (!g->used || (k->groups[g->group].used && group_has_live(k, g->group) &&
		                 !nobody_takes(k, g)))
			continue;
		k->groups[g->group].lost++;
		k->sys->close(g->fd);
		g->used = false;
	}
}

int64_t give_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (is_source(m, m->group) && k->groups[m->group].pump_at < next)
			next = k->groups[m->group].pump_at;
	}
	for (int i = 0; i < GIFTS_MAX; i++) {
		const struct gift *g = &k->gifts[i];

		if (g->used && g->conn == NONE && k->groups[g->group].pump_at < next)
			next = k->groups[g->group].pump_at;
	}
	for (int i = 0; i < NUDGES_MAX; i++)
		if (k->nudges[i].used && !k->nudges[i].gave_up && k->nudges[i].sent_at + NUDGE_MS < next)
			next = k->nudges[i].sent_at + NUDGE_MS;
	return next;
}

/* See group.h. */
#include "group.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "../util/log.h"
#include "adopt.h"
#include "give.h"
#include "member.h"
#include "nudge.h"
#include "process.h"
#include "sibling.h"

#define LISTENERS_MAX INDEX_MAX
#define UNSEEN_MAX    4 /* one that is killed between accept(2) and its count leaves one a thread */

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62 /* Linux 5.1 */
#endif

/* Scratch space of the one thread there is: too large for the stack. */
static struct os_listener listed[LISTENERS_MAX];
static uint64_t cookies[LISTENERS_MAX];

static bool same_uid_group(const struct keeper *k, const struct os_listener *l)
{
	return l->uid == k->uid;
}

/* Would the kernel let two sockets of one program overlap like this without us? */
static bool overlap_is_their_own(const struct wire_reserve *want, bool other_sharing,
                                 bool other_reuse)
{
	return (want->own_sharing && other_sharing) ||
	       (want->addr.proto == IPPROTO_UDP && want->reuse_addr && other_reuse);
}

static int try_bind(struct keeper *k, int fd, const struct sockaddr_storage *ss, socklen_t len)
{
	return k->sys->bind(fd, (const struct sockaddr *)ss, len) == -1 ? -errno : 0;
}

/* Would the bind have worked without us? Asked by doing it, with no option that shares: so sockets that
 * are bound but do not listen count too. 0; -EADDRINUSE; what else goes wrong is the shard's to see.
 * What is left of connections of an earlier run does not count; untouched: there is nothing of the kind. */
static int try_unshared(struct keeper *k, const struct addr *a, bool *ret_untouched)
{
	bool tcp = a->proto == IPPROTO_TCP;
	int fd = k->sys->socket(a->family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	int v6only = a->v6only, on = 1, device = (int)a->ifindex, r;
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);

	if (fd == -1)
		return 0;
	if (a->family == AF_INET6)
		(void)k->sys->setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	if (device)
		(void)k->sys->setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device));
	r = try_bind(k, fd, &ss, len);
	*ret_untouched = r == 0;
	if (tcp && r == -EADDRINUSE) {
		(void)k->sys->setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		r = try_bind(k, fd, &ss, len);
	}
	k->sys->close(fd);
	return r == -EADDRINUSE ? r : 0;
}

/* A foreign socket in the way: without us the server would get EADDRINUSE. 1: see sibling_greet(). */
static int check_free(struct keeper *k, const struct wire_reserve *want, bool *ret_untouched)
{
	bool udp = want->addr.proto == IPPROTO_UDP;

	*ret_untouched = false;
	if (want->rejoins)
		return 0;
	if (want->own_sharing || (udp && want->reuse_addr))
		return udp && sibling_greet(k, want) == 1;
	return try_unshared(k, &want->addr, ret_untouched) == 0 ? 0 : sibling_greet(k, want);
}

static bool is_of(const struct addr *group, const struct addr *connection)
{
	struct addr a = addr_unmap(group), b = addr_unmap(connection);

	return addr_is_wildcard(group) || addr_same_end(&a, &b);
}

/* Connections of an address that somebody has accepted: held by a process, and ended by their server;
 * without what we have taken out of queues, and without nudges. The kernel looks through all there
 * are in its table: never while a server waits for us, if it can be helped. */
static void accepted_ones(struct keeper *k, const struct addr *tcp, int *ret_held, int *ret_closing)
{
	int n = k->diag < 0 ? 0 : k->os->accepted(k->diag, tcp->family, tcp->port, listed, LISTENERS_MAX);

	*ret_held = *ret_closing = 0;
	for (int i = 0; i < n; i++) {
		if (!is_of(tcp, &listed[i].addr))
			continue;
		if (listed[i].closing)
			++*ret_closing;
		else
			*ret_held += !give_has(k, listed[i].cookie) &&
			             !nudge_is_from(k, &listed[i].peer);
	}
}

static int make(struct keeper *k, const struct wire_reserve *want, bool untouched)
{
	for (int i = 0; i < GROUPS_MAX; i++) {
		struct group *g = &k->groups[i];

		if (g->used)
			continue;
		memset(g, 0, sizeof(*g));
		g->used = true;
		g->addr = want->addr;
		memcpy(g->name, want->group, sizeof(g->name));
		g->mode = want->mode;
		g->key = want->key;
		g->hold_ms = (int32_t)want->hold_ms;
		g->stuck_ms = (int32_t)want->stuck_ms;
		g->own_sharing = want->own_sharing;
		g->reuse_addr = want->reuse_addr;
		g->list_at = g->order_at = NEVER;
		if (getrandom(&g->seed, sizeof(g->seed), GRND_NONBLOCK) != sizeof(g->seed))
			g->seed = (uint32_t)k->now * 2654435761u;
		if (want->addr.proto == IPPROTO_TCP && !untouched)
			accepted_ones(k, &want->addr, &g->held_before, &g->closing_before);
		bucket_init(&g->table);
		memset(g->ghost_index, 0xff, sizeof(g->ghost_index));
		if (k->group_top <= i)
			k->group_top = i + 1;
		return i;
	}
	return -ENOSPC;
}

int group_reserve(struct keeper *k, const struct wire_reserve *want)
{
	char text[ADDR_TEXT_MAX], other[ADDR_TEXT_MAX];
	int found = NONE, r;
	bool untouched;

	for (int i = 0; i < k->group_top; i++) {
		struct group *g = &k->groups[i];
		bool same;

		if (!g->used || !addr_overlaps(&g->addr, &want->addr))
			continue;
		same = addr_equal(&g->addr, &want->addr);
		if (same && strcmp(g->name, want->group) == 0) {
			found = i;
			continue;
		}
		if (!same && overlap_is_their_own(want, g->own_sharing, g->reuse_addr))
			continue;
		log_info("%s of group '%s' refused: %s belongs to group '%s'",
		         addr_format(&want->addr, text, sizeof(text)), want->group,
		         addr_format(&g->addr, other, sizeof(other)), g->name);
		return -EADDRINUSE;
	}
	if (found != NONE) {
		if (k->groups[found].mode != want->mode)
			log_warn("%s group '%s': another mode than the first shard's is not used",
			         addr_format(&want->addr, text, sizeof(text)), want->group);
		if (k->groups[found].key != want->key)
			log_warn("%s group '%s': another key= than the first shard's is not used",
			         addr_format(&want->addr, text, sizeof(text)), want->group);
		k->groups[found].own_sharing &= want->own_sharing != 0;
		k->groups[found].reuse_addr &= want->reuse_addr != 0;
		return found;
	}
	r = check_free(k, want, &untouched);
	if (r == -EADDRINUSE)
		log_info("%s refused: a socket that is not ours has it",
		         addr_format(&want->addr, text, sizeof(text)));
	found = r < 0 ? r : make(k, want, untouched);
	if (r == 1 && found >= 0)
		sibling_meet(k, found);
	return found;
}

void group_release_if_empty(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];

	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group)
			return;
	for (int i = 0; i < k->conn_top; i++)
		if (k->conn[i].used && k->conn[i].group == group)
			return;
	for (int i = 0; i < GIFTS_MAX; i++)
		if (k->gifts[i].used && k->gifts[i].group == group)
			return;
	g->used = false;
}

/* The kernel's group: exactly the address, the same creator's uid (inet_reuseport_add_sock). */
static size_t keep_group(const struct keeper *k, const struct group *g, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (addr_equal(&listed[i].addr, &g->addr) && same_uid_group(k, &listed[i]))
			cookies[kept++] = listed[i].cookie;
	return kept;
}

/* Where the kernel cannot be asked: our own sockets, in the order we made them join. */
static size_t only_ours(const struct keeper *k, int group)
{
	size_t n = 0;

	for (int i = 0; i < k->member_top && n < LISTENERS_MAX; i++)
		if (k->members[i].used && k->members[i].group == group &&
		    k->members[i].state != WIRE_STARTING)
			cookies[n++] = k->members[i].cookie;
	return n;
}

int group_list(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	size_t n;
	int r = -ENOTSUP;

	if (k->diag >= 0)
		r = k->os->listeners(k->diag, g->addr.proto, g->addr.port, listed, LISTENERS_MAX);
	n = r >= 0 ? keep_group(k, g, (size_t)r) : only_ours(k, group);
	if (g->ghosts > 0) {
		if (adopt_is_unchanged(g, cookies, n))
			return 0;
		adopt_give_up(g);
	}
	index_update(&g->map, cookies, n);
	g->list_at = NEVER;
	for (unsigned i = 0; i < g->map.n; i++)
		if (member_by_cookie(k, g->map.e[i].cookie) == NONE)
			g->list_at = k->now + STRANGER_MS;
	g->beside = g->beside && sibling_are_there(k, group);
	return r < 0 ? r : 0;
}

static bool has_counted(struct keeper *k, int group)
{
	for (uint32_t s = 0; s < BUCKETS_MAX; s++)
		if (k->groups[group].slots[s].accepted > 0)
			return true;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group &&
		    member_accepted(&k->members[i]) > 0)
			return true;
	return false;
}

bool group_is_heard(struct keeper *k, int group)
{
	struct group *g = &k->groups[group];
	int held, closing;

	if (g->heard || has_counted(k, group)) {
		g->unheard = false;
		return true;
	}
	if (g->unheard || k->diag < 0)
		return false;
	accepted_ones(k, &g->addr, &held, &closing);
	/* Whoever holds a client's has returned from accept(2): the count follows at once. */
	g->unheard = closing > g->closing_before + UNSEEN_MAX ||
	             (held > g->held_before && !has_counted(k, group));
	for (int i = 0; i < k->member_top && !g->unheard; i++)
		if (k->members[i].used && k->members[i].group == group &&
		    k->members[i].state == WIRE_LIVE)
			g->unheard = process_has_uring(k->members[i].pid);
	return !g->unheard;
}

/* A SYN-ACK is sent again after 1, 3, 7 ... seconds (tcp_synack_retries): retries tell the age. But
 * while a deferred client has not spoken none is sent (syn_ack_recalc, inet_connection_sock.c): the
 * first one after the time of deferring ends the wait; once more as long, should that be lost. */
static bool may_be_older(const struct os_listener *half_open, int64_t ms, int defer_seconds)
{
	if (defer_seconds > 0 && ms < (2 * (int64_t)defer_seconds + 1) * 1000)
		return true;
	return (INT64_C(1000) << (half_open->retries + 1)) > ms;
}

int group_half_open(struct keeper *k, int group, int64_t idle_ms, int defer_seconds)
{
	const struct group *g = &k->groups[group];
	int n, count = 0;

	if (k->diag < 0)
		return -ENOTSUP;
	n = k->os->half_open(k->diag, g->addr.port, listed, LISTENERS_MAX);
	for (int i = 0; i < n; i++)
		count += may_be_older(&listed[i], idle_ms, defer_seconds);
	return n < 0 ? n : count;
}

size_t group_strangers(struct keeper *k, int group, struct os_listener *ret, size_t max)
{
	struct group *g = &k->groups[group];
	size_t kept = 0;
	int n;

	if (k->diag < 0)
		return 0;
	n = k->os->listeners(k->diag, g->addr.proto, g->addr.port, listed, LISTENERS_MAX);
	for (int i = 0; i < n && kept < max; i++)
		if (addr_overlaps(&listed[i].addr, &g->addr) &&
		    member_by_cookie(k, listed[i].cookie) == NONE)
			ret[kept++] = listed[i];
	return kept;
}

bool group_supervised(const struct keeper *k, int group, uint32_t slot)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->role == WIRE_LAUNCHER && c->n > 0 && c->fd != NONE && !c->stopping &&
		    slot >= c->first && slot < c->first + c->n &&
		    strcmp(c->launch, k->groups[group].name) == 0 &&
		    !(c->given_up[slot / 8] & (1u << (slot % 8))))
			return true;
	}
	return false;
}

/* A bequeathed socket (an orphan that is watched) may be served by a child that has not accepted yet:
 * only who asks for that very slot takes its place. */
static bool slot_taken(const struct keeper *k, int group, uint32_t slot, bool asked_for)
{
	if (k->groups[group].ghosts > 0 && k->groups[group].ghost_index[slot] != WIRE_NO_INDEX)
		return true;
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m->used && m->group == group && m->slot == slot && m->state != WIRE_DRAINING &&
		    (m->state != WIRE_ORPHAN || (!asked_for && m->watch_at != NEVER)))
			return true;
	}
	return false;
}

int group_pick_slot(const struct keeper *k, int group, const struct conn *conn, bool *ret_taken)
{
	uint32_t want = conn->want.slot;

	*ret_taken = false;
	if (want < BUCKETS_MAX) {
		if (!slot_taken(k, group, want, true))
			return (int)want;
		*ret_taken = true;
	}
	for (uint32_t s = 0; s < BUCKETS_MAX; s++)
		if (!slot_taken(k, group, s, false) && !group_supervised(k, group, s))
			return (int)s;
	return -ENOSPC;
}

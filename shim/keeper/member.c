/* See member.h. */
#include "member.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "../util/log.h"
#include "conn.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "handover.h"
#include "leave.h"
#include "nudge.h"
#include "review.h"
#include "sockopt.h"

int member_by_cookie(const struct keeper *k, uint64_t cookie)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].cookie == cookie)
			return i;
	return NONE;
}

bool member_takes(const struct member *m)
{
	if (m->state == WIRE_LIVE || m->state == WIRE_EMPTY)
		return !m->condemned;
	return m->state == WIRE_ORPHAN && m->watch_at != NEVER && !m->condemned;
}

unsigned member_queue(const struct keeper *k, const struct member *m)
{
	unsigned waiting, backlog;

	return k->os->queue(k->sys, m->fd, &waiting, &backlog) == 0 ? waiting : 0;
}

uint64_t member_accepted(struct member *m)
{
	uint32_t now;

	if (!m->page.at)
		return m->accepted; /* UDP: none; or a worker died while it released the socket */
	now = page_accepted(&m->page);
	m->accepted += (uint64_t)(int64_t)(int32_t)(now - m->counted); /* a swallowed nudge counts back */
	m->counted = now;
	return m->accepted;
}

int member_int(const struct keeper *k, int fd, int level, int name)
{
	int value;
	socklen_t len = sizeof(value);

	return k->sys->getsockopt(fd, level, name, &value, &len) == -1 ? -errno : value;
}

/* A received descriptor can be anything. */
static int prove(struct keeper *k, const struct conn *c, const struct wire_join *join, int fd)
{
	const struct addr *a = &c->want.addr;
	bool tcp = a->proto == IPPROTO_TCP;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr name;
	struct stat st;
	uint64_t cookie;

	if (fstat(fd, &st) == -1 || !S_ISSOCK(st.st_mode) || st.st_uid != c->uid)
		return -EBADF;
	if (member_int(k, fd, SOL_SOCKET, SO_TYPE) != (tcp ? SOCK_STREAM : SOCK_DGRAM) ||
	    member_int(k, fd, SOL_SOCKET, SO_PROTOCOL) != a->proto ||
	    member_int(k, fd, SOL_SOCKET, SO_DOMAIN) != a->family)
		return -EBADF;
	if (k->os->cookie(k->sys, fd, &cookie) < 0 || cookie != join->cookie)
		return -EBADF;
	if (k->groups[c->group].mode != WIRE_MODE_SHARED && k->os->shared(k->sys, fd) != 1)
		return -EBADF;
	if (a->family == AF_INET6 && addr_is_wildcard(a) && /* else bind(2) decides */
	    member_int(k, fd, IPPROTO_IPV6, IPV6_V6ONLY) != a->v6only)
		return -EBADF;
	if (k->sys->getsockname(fd, (struct sockaddr *)&ss, &len) == -1 ||
	    addr_from_sockaddr((struct sockaddr *)&ss, len, &name) < 0)
		return -EBADF;
	if (name.port == 0)
		return 0; /* UDP: not bound yet; TCP: mode shared, or refused by the caller */
	name.proto = a->proto;
	name.v6only = a->v6only;
	name.ifindex = a->ifindex;
	return addr_equal(&name, a) ? 1 : -EBADF;
}

int member_new(struct keeper *k)
{
	for (int i = 0; i < MEMBERS_MAX; i++) {
		struct member *m = &k->members[i];

		if (m->used)
			continue;
		memset(m, 0, sizeof(*m));
		m->used = true;
		m->fd = NONE;
		m->hold_until = m->watch_at = NEVER;
		if (k->member_top <= i)
			k->member_top = i + 1;
		return i;
	}
	return -ENOSPC;
}

static void tell_launchers(struct keeper *k, const struct member *m, uint16_t type)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = type;
	p.body.slot.slot = m->slot;
	p.body.slot.pid = m->pid;
	p.body.slot.addr = k->groups[m->group].addr;
	for (int i = 0; i < k->conn_top; i++) {
		struct conn *c = &k->conn[i];

		if (c->used && c->fd != NONE && c->n > 0 && m->slot >= c->first &&
		    m->slot < c->first + c->n &&
		    strcmp(c->launch, k->groups[m->group].name) == 0) {
			p.head.result = ++c->events;
			(void)wire_send(k->sys, c->fd, &p, MSG_DONTWAIT);
		}
	}
}

void member_vanished(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	struct slot_stat *stat = &k->groups[m->group].slots[m->slot % BUCKETS_MAX];

	nudge_member_ended(k, member);
	stat->accepted += member_accepted(m);
	if (m->state != WIRE_STARTING)
		tell_launchers(k, m, WIRE_EVENT_GONE);
	m->used = false;
	for (int i = 0; i < k->conn_top; i++)
		if (k->conn[i].used && k->conn[i].state == CONN_OWNER && k->conn[i].member == member) {
			k->conn[i].member = NONE;
			k->conn[i].state = CONN_RESERVED;
			k->conn[i].reserved_at = 0;
			k->conn[i].page = m->page; /* it may listen again */
			m->page.at = NULL;
		}
	page_drop(&m->page);
}

void member_own(struct keeper *k, struct conn *c, int member, int fd, uint64_t cookie)
{
	struct member *m = &k->members[member];

	m->group = c->group;
	m->weight = c->want.weight;
	m->fd = fd;
	m->cookie = m->joined_as = cookie;
	m->pid = m->binder = c->pid;
	m->page = c->page;
	c->page.at = NULL;
	m->counted = m->page.at ? page_accepted(&m->page) : 0;
	m->state = WIRE_LIVE;
	m->deaf = c->deaf ? DEAF_ALWAYS : 0;
	handover_joined(k, member);
	if (getrandom(m->token, sizeof(m->token), GRND_NONBLOCK) != sizeof(m->token))
		memset(m->token, 0, sizeof(m->token)); /* nobody can claim by it */
	c->state = CONN_OWNER;
	c->member = member;
	c->hold = HOLD_JOINED;
}

/* Another socket is there for it. What waits in it still is given before it ends. */
static void replace(struct keeper *k, int member)
{
	if (k->members[member].page.at && member_is_alone(k, member) && !leave_is_drained(k, member))
		leave_drain(k, member);
	else
		leave_release(k, member);
}

/* The held socket of a slot whose next process has just joined: that one is the last in the kernel's
 * array and has no buckets yet, so that it moves into the hole and no flow notices. */
static void replace_orphans(struct keeper *k, int newcomer)
{
	const struct member *n = &k->members[newcomer];

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (i != newcomer && m->used && m->group == n->group && m->slot == n->slot &&
		    m->state == WIRE_ORPHAN)
			replace(k, i);
	}
}

/* A process that lost its connection and binds anew: what it held before is over. But not what it has
 * still, nor what another accepts from (nginx's master, whose workers have the socket). */
static void replace_suspects(struct keeper *k, int newcomer, const struct conn *c)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *o = &k->conn[i];

		if (o->used && o != c && o->state == CONN_OWNER && o->fd == NONE && o->pid == c->pid &&
		    o->pid != 0 && !o->dead && o->member != newcomer &&
		    k->members[o->member].group == k->members[newcomer].group &&
		    !leave_has_other_owner(k, o->member, o) &&
		    review_holds(&k->members[o->member], o->pid) != 1)
			replace(k, o->member);
	}
}

int member_for_all(const struct keeper *k, int group)
{
	if (k->groups[group].mode != WIRE_MODE_SHARED)
		return NONE;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group &&
		    k->members[i].state != WIRE_STARTING && k->members[i].state != WIRE_DRAINING)
			return i;
	return NONE;
}

bool member_is_alone(const struct keeper *k, int member)
{
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used && k->members[i].cookie == k->members[member].cookie)
			return false;
	return true;
}

/* Another shard of a group in mode shared: the held socket for its own, which nobody needs any more. */
static int share(struct keeper *k, int conn, const struct wire_join *join, int own_fd, int held,
                 uint32_t slot)
{
	char option[SOCKOPT_NAME_MAX], text[ADDR_TEXT_MAX];
	struct conn *c = &k->conn[conn];
	uint64_t cookie = k->members[held].cookie;
	int fd = k->sys->fcntl(k->members[held].fd, F_DUPFD_CLOEXEC, 0), member;

	if (fd == -1)
		return -errno;
	member = member_new(k);
	if (member < 0) {
		k->sys->close(fd);
		return member;
	}
	k->members[member].group = c->group;
	k->members[member].slot = slot;
	k->members[member].generation = ++k->groups[c->group].slots[slot].generation;
	member_own(k, c, member, fd, cookie);
	k->members[member].joined_as = join->cookie;
	if (sockopt_differs(k->sys, own_fd, fd, option))
		log_warn("%s: slot %u has another %s than the socket of all: that one's is used",
		         addr_format(&c->want.addr, text, sizeof(text)), slot, option);
	return member_joined(k, conn);
}

static int enter_kernel(struct keeper *k, const struct addr *a, int fd, int backlog)
{
	struct sockaddr_storage ss;
	int r;

	if (a->proto == IPPROTO_TCP)
		r = k->sys->listen(fd, backlog);
	else
		r = k->sys->bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(a, &ss));
	return r == -1 ? -errno : 0;
}

int member_join(struct keeper *k, int conn, const struct wire_join *join, int fd, bool bound,
                bool *ret_taken)
{
	struct conn *c = &k->conn[conn];
	bool tcp = c->want.addr.proto == IPPROTO_TCP;
	int held = member_for_all(k, c->group), member, slot, r = prove(k, c, join, fd);
	struct group *g;
	struct member *m;

	if (r < 0)
		return r;
	if (member_by_cookie(k, join->cookie) != NONE)
		return -EBADF;
	if (r == 1 && !tcp && conn_is_repeated(k))
		bound = true; /* by the worker that died of it */
	if (tcp && r == 0 && held == NONE) /* what was in its way has gone: it can bind now */
		return k->groups[c->group].mode == WIRE_MODE_SHARED ? -EADDRINUSE : -EBADF;
	if (!tcp && (r == 0) == bound)
		return -EBADF;
	FAULT(join_proven);
	slot = group_pick_slot(k, c->group, c, ret_taken);
	if (slot < 0)
		return slot;
	if (held != NONE) {
		r = share(k, conn, join, fd, held, (uint32_t)slot);
		if (r >= 0)
			k->sys->close(fd);
		return r;
	}
	member = member_new(k);
	if (member < 0)
		return member;
	m = &k->members[member];
	m->group = c->group;
	m->state = WIRE_STARTING;
	(void)group_list(k, c->group);
	if (!bound) {
		FAULT(listen_before);
		r = enter_kernel(k, &c->want.addr, fd, join->backlog);
		FAULT(listen_after);
		if (r < 0) {
			m->used = false;
			return r;
		}
	}
	g = &k->groups[c->group];
	m->slot = (uint32_t)slot;
	m->generation = ++g->slots[slot].generation;
	g->slots[slot].forked = false;
	member_own(k, c, member, fd, join->cookie);
	(void)group_list(k, c->group);
	FAULT(join_listed);
	return member_joined(k, conn);
}

int member_joined(struct keeper *k, int conn)
{
	const struct conn *c = &k->conn[conn];
	int member = c->member;

	replace_orphans(k, member);
	if (!k->members[member].made)
		replace_suspects(k, member, c);
	FAULT(join_orphans);
	group_steer(k, c->group);
	FAULT(join_steered);
	tell_launchers(k, &k->members[member], WIRE_EVENT_LIVE);
	FAULT(join_told);
	give_pump(k, c->group);
	return member;
}

int member_adopt(struct keeper *k, int conn, const struct wire_rejoin *rejoin, int fd, uint32_t slot,
                 uint32_t generation)
{
	struct conn *c = &k->conn[conn];
	struct wire_join join = { .addr = rejoin->addr, .cookie = rejoin->cookie };
	struct slot_stat *stat = &k->groups[c->group].slots[slot];
	int member;

	if (prove(k, c, &join, fd) != 1 || member_int(k, fd, SOL_SOCKET, SO_ACCEPTCONN) != 1 ||
	    (k->groups[c->group].mode != WIRE_MODE_SHARED &&
	     member_by_cookie(k, rejoin->cookie) != NONE))
		return -EBADF;
	member = member_new(k);
	if (member < 0)
		return member;
	k->members[member].slot = slot;
	k->members[member].generation = generation;
	member_own(k, c, member, fd, rejoin->cookie);
	if (stat->generation < generation)
		stat->generation = generation;
	stat->accepted += rejoin->accepted;
	handover_rejoined(k, member, rejoin->order);
	tell_launchers(k, &k->members[member], WIRE_EVENT_LIVE);
	return member;
}

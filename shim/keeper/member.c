/* See member.h. */
#include "member.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../util/log.h"
#include "conn.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "process.h"

int member_by_cookie(const struct keeper *k, uint64_t cookie)
{
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].cookie == cookie)
			return i;
	return NONE;
}

bool member_takes(const struct member *m)
{
	if (m->state == WIRE_LIVE)
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

static int get_int(const struct keeper *k, int fd, int level, int name)
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
	if (get_int(k, fd, SOL_SOCKET, SO_TYPE) != (tcp ? SOCK_STREAM : SOCK_DGRAM) ||
	    get_int(k, fd, SOL_SOCKET, SO_PROTOCOL) != a->proto ||
	    get_int(k, fd, SOL_SOCKET, SO_DOMAIN) != a->family)
		return -EBADF;
	if (k->os->cookie(k->sys, fd, &cookie) < 0 || cookie != join->cookie)
		return -EBADF;
	if (k->os->shared(k->sys, fd) != 1)
		return -EBADF;
	if (a->family == AF_INET6 && addr_is_wildcard(a) && /* else bind(2) decides */
	    get_int(k, fd, IPPROTO_IPV6, IPV6_V6ONLY) != a->v6only)
		return -EBADF;
	if (k->sys->getsockname(fd, (struct sockaddr *)&ss, &len) == -1 ||
	    addr_from_sockaddr((struct sockaddr *)&ss, len, &name) < 0)
		return -EBADF;
	if (name.port == 0)
		return 0; /* UDP: not bound yet; TCP: refused by the caller */
	name.proto = a->proto;
	name.v6only = a->v6only;
	name.ifindex = a->ifindex;
	return addr_equal(&name, a) ? 1 : -EBADF;
}

static int allocate(struct keeper *k)
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

	give_member_ended(k, member);
	stat->accepted += member_accepted(m);
	if (m->state != WIRE_STARTING)
		tell_launchers(k, m, WIRE_EVENT_GONE);
	m->used = false;
	for (int i = 0; i < k->conn_top; i++)
		if (k->conn[i].used && k->conn[i].state == CONN_OWNER && k->conn[i].member == member) {
			k->conn[i].member = NONE;
			k->conn[i].state = CONN_RESERVED;
			k->conn[i].page = m->page; /* it may listen again */
			m->page.at = NULL;
		}
	page_drop(&m->page);
}

/* Close our duplicate. The socket leaves the kernel's group unless somebody else still holds it.
 * Committed before: one change of the kernel's array at a time can be told for sure afterwards. */
static void release(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	int group = m->group;

	k->groups[group].lost += member_queue(k, m); /* nobody can take them: reset by the kernel */
	(void)member_accepted(m);
	state_commit(k);
	FAULT(release_before);
	k->sys->close(m->fd);
	FAULT(release_after);
	member_vanished(k, member);
	FAULT(release_told);
	(void)group_list(k, group);
}

void member_release_leftovers(struct keeper *k, int group)
{
	k->groups[group].releasing = false;
	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (m->used && m->group == group &&
		    (member_takes(m) || group_supervised(k, group, m->slot)))
			return;
	}
	k->groups[group].releasing = true;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].group == group)
			release(k, i);
	k->groups[group].releasing = false;
}

static bool others_live(const struct keeper *k, int member)
{
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group && member_takes(&k->members[i]))
			return true;
	return false;
}

/* A slot without a process is held for its next one, which can be given what waits elsewhere too. */
static bool others_return(const struct keeper *k, int member)
{
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group &&
		    k->members[i].state == WIRE_ORPHAN)
			return true;
	return false;
}

/* Nothing waits in it, and no handshake can end in it any more. */
static bool is_drained(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	int64_t idle_ms = k->now - m->idle_since;
	int half_open;

	if (member_queue(k, m) > 0) /* those that live may all be unable to take it */
		return others_live(k, member) && !give_is_possible(k, m->group);
	half_open = group_half_open(k, m->group, idle_ms,
	                            get_int(k, m->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT));
	return half_open < 0 ? idle_ms >= EVICT_MS : half_open == 0;
}

/* No new connections from here on; what waits or still arrives goes to the others, then it ends. */
static void drain(struct keeper *k, int member)
{
	struct member *m = &k->members[member];

	m->state = WIRE_DRAINING;
	m->watch_at = NEVER;
	m->evict = true;
	if (m->idle_since == 0)
		m->idle_since = k->now;
	group_steer(k, m->group);
	if (!k->groups[m->group].steered) { /* the kernel goes on sending to it: no use in waiting */
		int group = m->group;

		give_take_all(k, member);
		release(k, member);
		give_pump(k, group);
		return;
	}
	give_pump(k, m->group);
}

/* Buckets first, then the socket, then the indices that its end has moved. */
static void withdraw(struct keeper *k, int member, bool keep_home)
{
	struct member *m = &k->members[member];
	struct group *g = &k->groups[m->group];
	int group = m->group;

	(void)group_list(k, group); /* a stranger that came unseen is known before indices move */
	m->state = WIRE_DRAINING;
	if (keep_home)
		g->slots[m->slot].home_until = k->now + g->hold_ms;
	if (m->page.at && g->steered && others_live(k, member)) {
		drain(k, member);
		if (!m->used || !is_drained(k, member))
			return;
	}
	group_steer(k, group);
	g->releasing = keep_home;
	release(k, member);
	if (keep_home)
		member_release_leftovers(k, group);
	group_steer(k, group);
	group_release_if_empty(k, group);
}

static void become_owner(struct keeper *k, struct conn *c, int member, int fd, uint64_t cookie)
{
	struct member *m = &k->members[member];

	m->group = c->group;
	m->weight = c->want.weight;
	m->fd = fd;
	m->cookie = cookie;
	m->pid = c->pid;
	m->page = c->page;
	c->page.at = NULL;
	m->counted = m->page.at ? page_accepted(&m->page) : 0;
	m->state = WIRE_LIVE;
	m->deaf = c->deaf ? DEAF_ALWAYS : 0;
	if (getrandom(m->token, sizeof(m->token), GRND_NONBLOCK) != sizeof(m->token))
		memset(m->token, 0, sizeof(m->token)); /* nobody can claim by it */
	c->state = CONN_OWNER;
	c->member = member;
}

/* The held socket of a slot whose next process has just joined: that one is the last in the kernel's
 * array and has no buckets yet, so that it moves into the hole and no flow notices. */
static void replace_orphans(struct keeper *k, int newcomer)
{
	const struct member *n = &k->members[newcomer];

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (i == newcomer || !m->used || m->group != n->group || m->slot != n->slot ||
		    m->state != WIRE_ORPHAN)
			continue;
		if (m->page.at && !is_drained(k, i))
			drain(k, i);
		else
			release(k, i);
	}
}

/* A process that lost its connection and binds anew: what it held before is over. */
static void replace_suspects(struct keeper *k, int newcomer, const struct conn *c)
{
	for (int i = 0; i < k->conn_top; i++) {
		struct conn *o = &k->conn[i];

		if (o->used && o != c && o->state == CONN_OWNER && o->fd == NONE && o->pid == c->pid &&
		    o->pid != 0 && !o->dead && o->member != newcomer &&
		    k->members[o->member].group == k->members[newcomer].group) {
			k->members[o->member].state = WIRE_ORPHAN;
			release(k, o->member);
		}
	}
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
	int member, slot, r = prove(k, c, join, fd);
	struct group *g;
	struct member *m;

	if (r < 0)
		return r;
	if (member_by_cookie(k, join->cookie) != NONE)
		return -EBADF;
	if (r == 1 && !tcp && conn_is_repeated(k))
		bound = true; /* by the worker that died of it */
	if ((r == 0) != (!tcp && !bound))
		return -EBADF;
	FAULT(join_proven);
	slot = group_pick_slot(k, c->group, c, ret_taken);
	if (slot < 0)
		return slot;
	member = allocate(k);
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
	become_owner(k, c, member, fd, join->cookie);
	(void)group_list(k, c->group);
	FAULT(join_listed);
	return member_joined(k, conn);
}

int member_joined(struct keeper *k, int conn)
{
	const struct conn *c = &k->conn[conn];
	int member = c->member;

	replace_orphans(k, member);
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

	if (prove(k, c, &join, fd) != 1 || get_int(k, fd, SOL_SOCKET, SO_ACCEPTCONN) != 1 ||
	    member_by_cookie(k, rejoin->cookie) != NONE)
		return -EBADF;
	member = allocate(k);
	if (member < 0)
		return member;
	k->members[member].slot = slot;
	k->members[member].generation = generation;
	become_owner(k, c, member, fd, rejoin->cookie);
	if (stat->generation < generation)
		stat->generation = generation;
	stat->accepted += rejoin->accepted;
	tell_launchers(k, &k->members[member], WIRE_EVENT_LIVE);
	return member;
}

int member_claim(struct keeper *k, int conn, const uint8_t token[WIRE_TOKEN])
{
	struct conn *c = &k->conn[conn];

	for (int i = 0; i < k->member_top; i++) {
		struct member *m = &k->members[i];
		uint8_t differs = 0, any = 0;

		for (size_t b = 0; b < WIRE_TOKEN; b++) {
			differs |= m->token[b] ^ token[b];
			any |= token[b];
		}
		if (!m->used || differs || !any || m->state == WIRE_STARTING || m->state == WIRE_DRAINING)
			continue;
		c->state = CONN_OWNER;
		c->member = i;
		c->group = m->group;
		if (m->state != WIRE_LIVE)
			m->pid = c->pid;
		member_review(k, i);
		return i;
	}
	return -ENOENT;
}

static int disconnect(struct keeper *k, int fd)
{
	struct sockaddr sa = { .sa_family = AF_UNSPEC };

	return k->sys->connect(fd, &sa, sizeof(sa));
}

static bool has_other_owner(const struct keeper *k, int member, const struct conn *than)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c != than && c->state == CONN_OWNER && c->member == member &&
		    (c->fd != NONE || !c->dead))
			return true;
	}
	return false;
}

static void unreserve(struct keeper *k, struct conn *c)
{
	int group = c->group;

	if (c->state != CONN_RESERVED && c->state != CONN_GRANTED)
		return;
	c->state = CONN_READY;
	c->group = NONE;
	page_drop(&c->page);
	group_release_if_empty(k, group);
}

int member_leave(struct keeper *k, int conn, uint32_t action)
{
	struct conn *c = &k->conn[conn];
	int member = c->member, r = 0;
	struct member *m;

	if (c->state != CONN_OWNER || member == NONE) {
		if (action == WIRE_CLOSED)
			unreserve(k, c);
		return 0;
	}
	m = &k->members[member];
	if (action == WIRE_CLOSED && has_other_owner(k, member, c)) {
		c->state = CONN_RESERVED;
		c->member = NONE;
		member_review(k, member);
		return 0;
	}
	(void)group_list(k, m->group); /* a stranger that came unseen is known before indices move */
	m->state = WIRE_DRAINING;
	group_steer(k, m->group);
	FAULT(leave_steered);
	if (action != WIRE_CLOSED && others_live(k, member))
		give_take_all(k, member);
	if (action == WIRE_SHUT_RD || action == WIRE_SHUT_RDWR)
		r = k->sys->shutdown(m->fd, action == WIRE_SHUT_RD ? SHUT_RD : SHUT_RDWR);
	else if (action == WIRE_DISCONNECT)
		r = disconnect(k, m->fd);
	r = r == -1 ? -errno : 0;
	if (r == -ENOTCONN)
		r = 0; /* it listened: a worker that died had shut it down */
	FAULT(leave_done);
	if (action == WIRE_CLOSED) {
		withdraw(k, member, true);
	} else {
		release(k, member);
		group_steer(k, c->group);
		give_pump(k, c->group);
	}
	if (action == WIRE_CLOSED)
		unreserve(k, c);
	if (action == WIRE_CONNECTING)
		k->groups[c->group].list_at = k->now;
	return r;
}

enum ownership { OWNED, BEQUEATHED, SUSPECT, ORPHANED };

static enum ownership ownership(const struct keeper *k, int member, bool *ret_clean,
                                uint32_t *ret_pid)
{
	enum ownership best = ORPHANED;

	*ret_clean = false;
	*ret_pid = 0;
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];
		enum ownership o;

		if (!c->used || c->state != CONN_OWNER || c->member != member)
			continue;
		if (c->fd != NONE)
			o = c->dead ? BEQUEATHED : OWNED;
		else
			o = c->dead ? ORPHANED : SUSPECT;
		if (o <= best) {
			best = o;
			*ret_pid = c->pid;
		}
		*ret_clean |= c->clean;
	}
	return best;
}

/* Nobody has proven to accept here: buckets stay only while the queue moves. */
static void watch(struct keeper *k, int member, int64_t patience_ms)
{
	struct member *m = &k->members[member];
	unsigned waiting = member_queue(k, m);

	m->watch_at = k->now + WATCH_MS;
	if (waiting == 0 || member_accepted(m) != m->stands_at) {
		m->stands_since = waiting ? k->now : 0;
		m->stands_at = member_accepted(m);
		return;
	}
	if (m->stands_since == 0)
		m->stands_since = k->now;
	if (k->now - m->stands_since >= patience_ms)
		m->condemned = true;
}

/* -> false: the process has closed the socket without our seeing it. */
static bool may_still_hold(const struct member *m, uint32_t pid)
{
	struct stat st;

	if (pid == 0 || process_exiting(pid) || fstat(m->fd, &st) == -1)
		return true;
	return process_holds(pid, st.st_ino) != 0;
}

static void orphaned(struct keeper *k, int member, bool on_purpose)
{
	struct member *m = &k->members[member];

	if (on_purpose) {
		withdraw(k, member, true);
		return;
	}
	if (m->state != WIRE_ORPHAN || m->hold_until == NEVER) {
		m->hold_until = k->now + k->groups[m->group].hold_ms;
		log_info("slot %u of group '%s': process %u is gone", m->slot,
		         k->groups[m->group].name, m->pid);
	}
	if (m->state != WIRE_ORPHAN)
		m->idle_since = k->now;
	m->state = WIRE_ORPHAN;
	give_member_died(k, member);
	m->watch_at = NEVER;
	m->condemned = false;
	if (k->now >= m->hold_until) {
		if (!group_supervised(k, m->group, m->slot)) {
			withdraw(k, member, false);
			return;
		}
		m->hold_until = k->now + k->groups[m->group].hold_ms;
	}
	group_steer(k, m->group);
	give_pump(k, m->group);
}

static bool stopping(const struct keeper *k, const struct member *m)
{
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *c = &k->conn[i];

		if (c->used && c->stopping && m->slot >= c->first && m->slot < c->first + c->n &&
		    strcmp(c->launch, k->groups[m->group].name) == 0)
			return true;
	}
	return false;
}

void member_review(struct keeper *k, int member)
{
	struct member *m = &k->members[member];
	bool took = member_takes(m), clean;
	uint32_t pid;

	switch (ownership(k, member, &clean, &pid)) {
	case OWNED:
		if (m->state != WIRE_STUCK)
			m->state = WIRE_LIVE;
		if (m->watch_at != NEVER)
			give_call_off(k, member);
		m->pid = pid;
		m->condemned = false;
		m->watch_at = m->hold_until = NEVER;
		break;
	case BEQUEATHED:
		m->state = WIRE_ORPHAN;
		watch(k, member, BEQUEATHED_MS);
		break;
	case SUSPECT:
		if (!may_still_hold(m, pid)) {
			withdraw(k, member, true);
			return;
		}
		/* It cannot ask any more: a nudge of ours would be a client that says nothing. */
		if (m->watch_at == NEVER && !process_exiting(pid))
			give_member_ended(k, member);
		give_call(k, member);
		watch(k, member, SUSPECT_MS);
		break;
	case ORPHANED:
		orphaned(k, member, clean || stopping(k, m));
		return;
	}
	if (member_takes(m) != took)
		group_steer(k, m->group);
}

void member_clean_exit(struct keeper *k, int conn, bool alone)
{
	struct conn *c = &k->conn[conn];
	int member = c->member;

	c->clean = true;
	if (!alone || c->state != CONN_OWNER || member == NONE || has_other_owner(k, member, c))
		return;
	for (int i = 0; i < k->member_top; i++)
		if (i != member && k->members[i].used &&
		    k->members[i].group == k->members[member].group && member_takes(&k->members[i]))
			return; /* its index counts: released when the process is really gone */
	if (!group_supervised(k, k->members[member].group, k->members[member].slot))
		withdraw(k, member, true);
}

void member_evict_due(struct keeper *k, int member)
{
	const struct member *m = &k->members[member];
	int group = m->group;

	if (member_queue(k, m) > 0)
		give_pump(k, group);
	if ((others_live(k, member) || others_return(k, member)) && !is_drained(k, member))
		return;
	(void)group_list(k, group);
	FAULT(evict_due);
	k->groups[group].releasing = true;
	release(k, member);
	member_release_leftovers(k, group);
	group_steer(k, group);
	give_pump(k, group);
	group_release_if_empty(k, group);
}

int64_t member_next_ms(const struct keeper *k)
{
	int64_t next = NEVER;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		if (!m->used)
			continue;
		if (m->watch_at < next)
			next = m->watch_at;
		if (m->evict && k->now + WATCH_MS < next)
			next = k->now + WATCH_MS;
		if (m->state == WIRE_ORPHAN && m->watch_at == NEVER && m->hold_until < next)
			next = m->hold_until;
	}
	return next;
}

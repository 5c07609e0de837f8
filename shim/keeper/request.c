/* One function per message. A peer that breaks the protocol is closed; one that asks for what cannot
 * be gets -errno. */
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "../util/version.h"
#include "adopt.h"
#include "claim.h"
#include "fault.h"
#include "give.h"
#include "group.h"
#include "launcher.h"
#include "leave.h"
#include "member.h"
#include "process.h"
#include "snapshot.h"

int request_reply(struct keeper *k, const struct conn *c, struct wire_packet *p, uint32_t seq,
                  int result)
{
	p->head.seq = seq;
	p->head.result = result;
	k->outbox.used = true;
	k->outbox.conn = (int)(c - k->conn);
	k->outbox.seq = seq;
	k->outbox.packet = *p;
	return 0;
}

static int on_hello(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	const struct wire_hello *h = &p->body.hello;
	uint32_t seq = p->head.seq;
	int r = 0, pid;

	if (h->role < WIRE_SHARD || h->role > WIRE_CONTROL || (c->foreign && h->role != WIRE_SHARD))
		return -EPERM;
	if (h->version_min > WIRE_VERSION || h->version_max < WIRE_VERSION)
		r = -EPROTONOSUPPORT;
	c->role = h->role;
	if (c->pid == 0)
		c->pid = h->pid; /* another pid namespace: only for people to read */
	if (p->n_fds == 1 && r == 0) {
		/* It must be the pidfd of the very process that connected. */
		pid = process_pidfd_pid(p->fds[0]);
		if (pid >= 0 && (pid == 0 || (uint32_t)pid == c->pid)) {
			r = conn_watch_process(k, conn, p->fds[0]);
			p->fds[0] = NONE;
		} else {
			r = -EBADF;
		}
	}
	wire_close_fds(k->sys, p);
	if (r == 0)
		c->state = CONN_READY;
	memset(&p->body, 0, sizeof(p->body));
	p->head.type = WIRE_HELLO;
	p->body.hello.version_min = p->body.hello.version_max = WIRE_VERSION;
	p->body.hello.pid = (uint32_t)getpid();
	p->body.hello.vault = (uint32_t)k->shared->vault.pid;
	strcpy(p->body.hello.version, SOCKSHARD_VERSION);
	memcpy(p->body.hello.service, k->service, sizeof(p->body.hello.service));
	return request_reply(k, c, p, seq, r);
}

static bool want_is_valid(const struct wire_reserve *w)
{
	return (w->addr.proto == IPPROTO_TCP || w->addr.proto == IPPROTO_UDP) &&
	       (w->addr.family == AF_INET || w->addr.family == AF_INET6) && w->addr.v6only <= 1 &&
	       w->addr.port != 0 && memchr(w->group, '\0', sizeof(w->group)) &&
	       w->key <= WIRE_KEY_RANDOM && w->mode <= WIRE_MODE_HANDOVER && w->hold_ms <= 86400000 &&
	       w->stuck_ms <= 3600000 && w->weight <= 1000 &&
	       (w->slot < BUCKETS_MAX || w->slot == WIRE_SLOT_ANY);
}

static int on_reserve(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq;
	int r;

	if (c->role != WIRE_SHARD || c->state != CONN_READY || !want_is_valid(&p->body.reserve))
		return -EPROTO;
	c->want = p->body.reserve;
	r = group_reserve(k, &c->want);
	if (r >= 0) {
		k->groups[r].own_program |= c->want.own_program != 0;
		c->group = r;
		c->state = CONN_RESERVED;
		c->reserved_at = k->now;
		r = c->want.addr.proto == IPPROTO_TCP ? page_make(&c->page) : 0;
		FAULT(reserve_page);
		p->body.reserve.listened = member_for_all(k, c->group) != NONE;
	}
	wire_close_fds(k->sys, p);
	if (r == 0 && c->page.at) {
		p->fds[0] = c->page.fd;
		p->n_fds = 1;
	}
	r = request_reply(k, c, p, seq, r);
	p->n_fds = 0; /* the keeper's own */
	return r;
}

/* The packet's descriptors are recorded with what they belong to, and stay the keeper's. */
static int reply_own_fds(struct keeper *k, const struct conn *c, struct wire_packet *p, uint32_t seq,
                         int result)
{
	int r = request_reply(k, c, p, seq, result);

	p->n_fds = 0;
	p->fds[0] = p->fds[1] = NONE;
	return r;
}

/* The body of a JOINED; nothing but zero when member is an error. */
static void answer_joined(const struct keeper *k, struct wire_packet *p, int member,
                          const struct wire_joined *more)
{
	memset(&p->body, 0, sizeof(p->body));
	p->head.type = WIRE_JOINED;
	if (member < 0)
		return;
	p->body.joined = *more;
	p->body.joined.slot = k->members[member].slot;
	p->body.joined.generation = k->members[member].generation;
	p->body.joined.steered = k->groups[k->members[member].group].steered;
	memcpy(p->body.joined.token, k->members[member].token, WIRE_TOKEN);
}

static int joined(struct keeper *k, const struct conn *c, struct wire_packet *p, uint32_t seq, int r,
                  bool taken)
{
	const struct wire_joined more = { .wanted_taken = taken };

	answer_joined(k, p, r, &more);
	if (r >= 0 && k->members[r].joined_as != k->members[r].cookie) {
		p->body.joined.made = 1;
		p->fds[0] = k->members[r].fd;
		p->n_fds = 1;
	}
	return reply_own_fds(k, c, p, seq, r < 0 ? r : 0);
}

/* A shard that did not wait for us has gone its own way. Where its call failed (SOCKSHARD_STRICT=1)
 * or the process has ended, nobody would accept. */
static bool gave_up(struct keeper *k, const struct conn *c, int fd)
{
	struct pollfd p = { .fd = c->fd };
	int listens = 0;
	socklen_t len = sizeof(listens);

	return k->sys->poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) &&
	       (k->sys->getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == -1 || !listens);
}

static int on_join(struct keeper *k, int conn, struct wire_packet *p, bool bound)
{
	struct conn *c = &k->conn[conn];
	struct wire_join *join = bound ? &c->grant : &p->body.join;
	uint32_t seq = p->head.seq;
	bool taken = false;
	int r;

	if (c->state == CONN_OWNER && c->member != NONE &&
	    k->members[c->member].joined_as == join->cookie) { /* a worker died in the middle of it */
		wire_close_fds(k->sys, p);
		return joined(k, c, p, seq, member_joined(k, conn), false);
	}
	if (c->state != (bound ? CONN_GRANTED : CONN_RESERVED) || p->n_fds != 1)
		return -EPROTO;
	if (!bound && gave_up(k, c, p->fds[0]))
		return -EPIPE;
	c->grant = *join;
	r = member_join(k, conn, join, p->fds[0], bound, &taken);
	if (r >= 0)
		p->fds[0] = NONE;
	wire_close_fds(k->sys, p);
	if (r == -EACCES && !bound && c->want.addr.proto == IPPROTO_UDP) {
		/* A low port: the server has the right that we lack. */
		c->state = CONN_GRANTED;
		memset(&p->body, 0, sizeof(p->body));
		p->head.type = WIRE_JOINED;
		p->body.joined.granted = 1;
		return request_reply(k, c, p, seq, 0);
	}
	if (bound && r < 0)
		c->state = CONN_RESERVED;
	return joined(k, c, p, seq, r, taken);
}

static int on_rejoin(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq;
	int r;

	if (c->state != CONN_RESERVED || !c->want.rejoins || p->n_fds == 0)
		return -EPROTO;
	r = adopt_rejoin(k, conn, &p->body.rejoin, p->fds[0], p->fds[1]);
	if (r >= 0)
		p->fds[0] = NONE;
	wire_close_fds(k->sys, p);
	return joined(k, c, p, seq, r, false);
}

static int on_claim(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	const struct wire_claim claim = p->body.claim;
	struct wire_joined answer = { .made = 0 };
	uint32_t seq = p->head.seq;
	int r;

	if (c->role != WIRE_SHARD || (c->state != CONN_READY && c->state != CONN_OWNER) ||
	    claim.want > WIRE_WANT_HOLD)
		return -EPROTO;
	r = claim_request(k, conn, &claim, p->n_fds == 1 ? p->fds[0] : NONE, &answer);
	wire_close_fds(k->sys, p);
	answer_joined(k, p, r, &answer);
	if (r >= 0) { /* a token was inherited together with the page; a descriptor was not */
		if (answer.made)
			p->fds[p->n_fds++] = k->members[r].fd;
		if ((answer.made || claim.cookie) && k->members[r].page.at)
			p->fds[p->n_fds++] = k->members[r].page.fd;
	}
	return reply_own_fds(k, c, p, seq, r < 0 ? r : 0);
}

static int on_ask(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	struct wire_ask ask = p->body.ask;
	uint32_t seq = p->head.seq;
	int fd, r;

	if (c->state != CONN_OWNER)
		return -EPROTO;
	memset(&p->body, 0, sizeof(p->body));
	p->head.type = WIRE_GIVEN;
	give_answer(k, conn, &ask, &p->body.given, &fd);
	p->n_fds = fd != NONE;
	p->fds[0] = fd;
	r = request_reply(k, c, p, seq, 0);
	p->n_fds = 0; /* the keeper's own until it is acknowledged */
	p->fds[0] = NONE;
	return r;
}

static int on_taken(struct keeper *k, int conn, struct wire_packet *p)
{
	uint32_t seq = p->head.seq;
	int r = give_taken(k, conn, p->body.given.gift);

	r = request_reply(k, &k->conn[conn], p, seq, r);
	if (r == 0 && k->conn[conn].group != NONE)
		give_pump(k, k->conn[conn].group);
	return r;
}

static int on_leave(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq;
	int r;

	if (p->body.leave.action < WIRE_CLOSED || p->body.leave.action > WIRE_CONNECTING)
		return -EPROTO;
	r = leave_request(k, conn, p->body.leave.action);
	return request_reply(k, c, p, seq, r);
}

static int on_own_program(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq;

	if (c->group == NONE)
		return -EPROTO;
	k->groups[c->group].own_program = true;
	group_steer(k, c->group);
	return request_reply(k, c, p, seq, 0);
}

static int on_deaf(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq;

	c->deaf = true;
	if (c->state == CONN_OWNER && c->member != NONE)
		k->members[c->member].deaf = DEAF_ALWAYS;
	return request_reply(k, c, p, seq, 0);
}

int request_handle(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq;
	int type = p->head.type, r;

	if ((type == WIRE_HELLO) != (c->state == CONN_NEW))
		return -EPROTO;
	if (c->foreign && type != WIRE_HELLO && type != WIRE_CLAIM && type != WIRE_LEAVE &&
	    type != WIRE_CLEAN_EXIT && type != WIRE_ASK && type != WIRE_TAKEN && type != WIRE_DEAF)
		return -EPERM;
	if (c->foreign && p->n_fds > 0 && type != WIRE_HELLO)
		return -EPERM; /* a token allows to claim, not to send descriptors */
	if (type != WIRE_HELLO && type != WIRE_JOIN && type != WIRE_BOUND && type != WIRE_REJOIN &&
	    type != WIRE_CLAIM)
		wire_close_fds(k->sys, p); /* nobody asked for them, and replies have their own */
	switch (type) {
	case WIRE_HELLO:
		return on_hello(k, conn, p);
	case WIRE_RESERVE:
		return on_reserve(k, conn, p);
	case WIRE_JOIN:
	case WIRE_BOUND:
		return on_join(k, conn, p, type == WIRE_BOUND);
	case WIRE_REJOIN:
		return on_rejoin(k, conn, p);
	case WIRE_CLAIM:
		return on_claim(k, conn, p);
	case WIRE_LEAVE:
		return on_leave(k, conn, p);
	case WIRE_ASK:
		return on_ask(k, conn, p);
	case WIRE_TAKEN:
		return on_taken(k, conn, p);
	case WIRE_OWN_PROGRAM:
		return on_own_program(k, conn, p);
	case WIRE_DEAF:
		return on_deaf(k, conn, p);
	case WIRE_CLEAN_EXIT:
		leave_clean_exit(k, conn, p->body.leave.action == WIRE_CLOSED);
		return request_reply(k, c, p, seq, 0);
	case WIRE_REGISTER:
		return launcher_register(k, conn, p);
	case WIRE_WAKE:
		return launcher_wake(k, conn, p);
	case WIRE_STOPPING:
	case WIRE_GIVE_UP:
		return launcher_word(k, conn, p);
	case WIRE_STATUS:
		r = status_send(k, c, seq);
		p->head.type = WIRE_STATUS;
		return r < 0 ? r : request_reply(k, c, p, seq, 0);
	default:
		return -EPROTO;
	}
}

/* A process's first use of a listener: who accepts from it. See docs/ARCHITECTURE.md, "Workers". */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard_parts.h"

/* One claim at a time: the other threads wait for it, and a fork waits too. Held while the keeper is
 * asked, which has a deadline; whoever waits for it has no use for its listener before. */
static pthread_mutex_t claims = PTHREAD_MUTEX_INITIALIZER;
static bool forked; /* since this program started */
/* Of the thread that forks: a handler that ran while it has the locks could wait for them for ever. */
static sigset_t fork_mask;
static bool fork_masked;

static int ask(const struct sys *sys, struct shard *c, int fd, enum wire_want want,
               struct wire_packet *p)
{
	memset(p, 0, sizeof(*p));
	p->head.type = WIRE_CLAIM;
	p->body.claim.want = want;
	if (fd >= 0) {
		p->body.claim.cookie = c->cookie;
		p->fds[0] = fd;
		p->n_fds = 1;
	} else {
		memcpy(p->body.claim.token, c->token, sizeof(c->token));
	}
	return link_ask(sys, c, p);
}

static bool has_token(const struct shard *s)
{
	static const uint8_t none[WIRE_TOKEN];

	return memcmp(s->token, none, sizeof(none)) != 0;
}

static int obtain(const struct sys *sys, struct shard *c, int fd, enum wire_want want,
                  struct wire_packet *p)
{
	int r = has_token(c) ? ask(sys, c, -1, want, p) : -ENOENT;

	/* A user who is not the keeper's may not send descriptors. Who shares one socket with all shards
	 * of its group is a shard of its own, not a part of the one that is there already. */
	if (r == -ENOENT && geteuid() == c->keeper_uid && c->keeper.fd >= 0 &&
	    !(c->shared && c->part == SHARD_JOINER)) {
		if (has_token(c))
			wire_close_fds(sys, p);
		r = ask(sys, c, fd, want, p);
	}
	return r;
}

static void take_page(const struct sys *sys, struct shard *s, struct wire_packet *p)
{
	struct shard before = { .counter = s->counter };

	link_map_counter(sys, s, p);
	link_unmap_counter(&before);
}

/* What the answer says, into the record. The connection is now ours alone. In a turn of s, if it gets
 * another connection: a question of another thread that is under way has nothing to do with that one. */
static void settle(const struct sys *sys, struct shard *s, const struct shard *c,
                   struct wire_packet *p, enum shard_part part)
{
	if (c != s) {
		link_close(sys, s); /* our copy of the parent's */
		fdtab_lock();
		s->keeper = c->keeper;
		s->keeper_cookie = c->keeper_cookie;
		fdtab_unlock();
	}
	memcpy(s->token, p->body.joined.token, sizeof(s->token));
	if (p->n_fds == 1)
		take_page(sys, s, p);
	wire_close_fds(sys, p);
	s->owner = getpid();
	s->forks = atomic_load(&init_forks);
	s->state = SHARD_JOINED;
	s->part = part;
}

/* The keeper made another socket. From here on the packet holds no more than the page. */
static int take_made(const struct sys *sys, struct shard *s, struct wire_packet *p,
                     const struct shard_watches *watches)
{
	int r = p->n_fds == 2 ? shard_move(sys, s, p->fds[0], watches) : -EPROTO;

	if (r < 0)
		return r;
	p->fds[0] = p->fds[1];
	p->fds[1] = -1;
	p->n_fds = 1;
	return 0;
}

static enum shard_part part_of(enum wire_want want, int why)
{
	if (want == WIRE_WANT_HOLD)
		return SHARD_HOLDS;
	if (want == WIRE_WANT_BESIDE)
		return SHARD_BESIDE;
	if (why == -EBUSY)
		return SHARD_WAITS;
	return why == 0 ? SHARD_CLAIMED : SHARD_BESIDE;
}

/* Nobody knows the socket: an earlier keeper has ended. */
static int join_again(const struct sys *sys, struct shard *s, struct shard *c, int fd)
{
	struct shard before = { .counter = s->counter };
	struct wire_packet p;
	int r = link_rejoin(sys, c, fd, c->counter != &fdtab_uncounted);

	if (r < 0)
		return r;
	memset(&p, 0, sizeof(p));
	memcpy(p.body.joined.token, c->token, sizeof(c->token));
	link_unmap_counter(&before);
	s->counter = c->counter;
	settle(sys, s, c, &p, SHARD_JOINER);
	return 0;
}

struct plan {
	enum wire_want want;
	bool start, rejoins;
	const struct shard_watches *watches;
};

/* On a connection to the keeper. 1: once more, on a new one, as the plan says now. */
static int attempt(const struct sys *sys, struct shard *s, struct shard *c, int fd, struct plan *plan)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	r = obtain(sys, c, fd, plan->want, &p);
	if (r == -ENOENT && plan->rejoins && c != s && c->keeper.fd >= 0 &&
	    geteuid() == c->keeper_uid) {
		wire_close_fds(sys, &p);
		plan->rejoins = false;
		r = join_again(sys, s, c, fd);
		return r == -EBADF ? 1 : r; /* another process has joined it meanwhile */
	}
	if (r == 0 && p.body.joined.made) {
		r = plan->want == WIRE_WANT_OWN ? take_made(sys, s, &p, plan->watches) : -EPROTO;
		if (r < 0) {
			log_warn("fd %d: no socket of its own: %s", fd, strerror(-r));
			(void)link_leave(sys, c, WIRE_CLOSED);
			link_close(sys, c);
			r = plan->want == WIRE_WANT_OWN ? 1 : r;
			plan->want = WIRE_WANT_BESIDE;
		}
	}
	if (r == 0) {
		settle(sys, s, c, &p, part_of(plan->want, p.body.joined.why));
		shard_say_part(s, fd, &p.body.joined);
	}
	wire_close_fds(sys, &p);
	return r;
}

/* On a connection of its own, which takes the place of the one there was. */
static int attempt_anew(const struct sys *sys, struct shard *s, int fd, struct plan *plan)
{
	struct shard mine;
	int r = link_take_turn(s);

	if (r < 0)
		return r;
	if (s->owner == getpid())
		link_close(sys, s);
	mine = *s;
	mine.keeper.fd = -1;
	atomic_store(&mine.busy, false);
	r = link_open(sys, &mine, plan->start);
	if (r == 0)
		r = attempt(sys, s, &mine, fd, plan);
	if (r != 0)
		link_close(sys, &mine);
	link_end_turn(s);
	return r;
}

int shard_claim(const struct sys *sys, struct shard *s, int fd, enum wire_want want,
                const struct shard_watches *watches, bool start, bool rejoins)
{
	struct plan plan = { want, start, rejoins, watches };
	int r;

	do {
		if (s->owner == getpid() && !link_is_lost(sys, s))
			r = attempt(sys, s, s, fd, &plan);
		else
			r = attempt_anew(sys, s, fd, &plan);
	} while (r == 1);
	return r;
}

static void set_mark(struct shard *s, uintptr_t bits)
{
	fdtab_lock();
	fdtab_set_mark(s, (uintptr_t)s->counter | bits);
	fdtab_unlock();
}

/* The process that joined says so in the page; no message. false: a worker was quicker. */
static bool is_joiners(struct shard *s, enum shard_touch touch)
{
	uint32_t was = WIRE_UNCLAIMED;
	uint32_t now = touch == TOUCH_ACCEPT ? WIRE_ACCEPTED : WIRE_POLLED;

	if (s->counter == &fdtab_uncounted)
		return true;
	while (was < now && !atomic_compare_exchange_weak(&s->counter->claimed, &was, now))
		;
	return was != WIRE_BY_CLAIM;
}

/* An attempt that began then was in vain. */
static void put_off(struct shard *s, int64_t began)
{
	int64_t now = link_now_ms();

	s->retry_at = now + LINK_RETRY_MS + LINK_COST_FACTOR * (now - began);
}

static void try_claim(const struct sys *sys, struct shard *s, int fd, enum shard_touch touch, int epfd)
{
	int64_t before = link_now_ms();
	bool lost = atomic_load(&s->counter->word) & WIRE_KEEPER_DIED;
	struct shard_watches watches;
	enum wire_want want;
	int r;

	if (before < s->retry_at)
		return;
	want = shard_want(sys, s, epfd, &watches);
	r = shard_claim(sys, s, fd, want, &watches, lost, true);
	if (r == 0 && s->part == SHARD_JOINER && is_joiners(s, touch))
		set_mark(s, touch == TOUCH_ACCEPT ? 0 : FDTAB_CLAIM | FDTAB_POLLED);
	else if (r == 0 && s->part == SHARD_WAITS)
		set_mark(s, FDTAB_CLAIM | FDTAB_POLLED);
	else if (r == 0 || !(link_failed(r) || r == -ENOENT))
		set_mark(s, 0);
	if (r == 0)
		return;
	put_off(s, before);
	log_debug("fd %d: the keeper does not grant it: %s", fd, strerror(-r));
}

static void touch_known(const struct sys *sys, struct shard *s, int fd, enum shard_touch touch, int epfd)
{
	uintptr_t mark;

	fdtab_lock();
	mark = fdtab_mark_of(s);
	fdtab_unlock();
	if (!(mark & FDTAB_CLAIM) || ((mark & FDTAB_POLLED) && touch != TOUCH_ACCEPT))
		return; /* another thread has done it */
	if (s->owner == getpid() && s->part == SHARD_WAITS &&
	    atomic_load(&s->counter->claimed) == WIRE_POLLED)
		return;
	if (s->part == SHARD_JOINER && s->owner == getpid() && is_joiners(s, touch))
		set_mark(s, touch == TOUCH_ACCEPT ? 0 : FDTAB_CLAIM | FDTAB_POLLED);
	else
		try_claim(sys, s, fd, touch, epfd);
}

/* No new kind of call after a filter: beside the others, as it was. */
static void touch_sandboxed(int fd)
{
	struct shard *s;

	fdtab_lock();
	s = fdtab_find(fd);
	if (s)
		fdtab_set_mark(s, (uintptr_t)s->counter);
	else
		fdtab_tag(fd, FDTAB_FOREIGN);
	fdtab_unlock();
}

void shard_touch(const struct sys *sys, int fd, enum shard_touch touch, int epfd)
{
	uintptr_t mark = fdtab_peek(fd);
	struct shard *s;

	if (!init_is_self() || mark == FDTAB_FOREIGN || mark == FDTAB_INTERNAL)
		return;
	if (atomic_load(&init_sandboxed)) {
		touch_sandboxed(fd);
		return;
	}
	if (fdtab_is_known(mark) && (touch == TOUCH_HOLD || !(mark & FDTAB_CLAIM)))
		return;
	pthread_mutex_lock(&claims);
	if (!fdtab_is_known(fdtab_peek(fd)))
		shard_inherit(sys, fd, touch, epfd);
	s = touch == TOUCH_HOLD ? NULL : shard_get(sys, fd);
	if (s) {
		touch_known(sys, s, fd, touch, epfd);
		shard_put(sys, s);
	}
	pthread_mutex_unlock(&claims);
}

static int reclaim(const struct sys *sys, struct shard *s, int fd)
{
	int64_t start = link_now_ms();
	enum wire_want want = WIRE_WANT_BESIDE;
	struct shard_watches watches;
	int r;

	if (s->part == SHARD_CLAIMED)
		want = shard_want(sys, s, -1, &watches);
	r = shard_claim(sys, s, fd, want, &watches, true, true);
	if (r < 0) {
		put_off(s, start);
		return r;
	}
	s->retry_at = 0;
	if (s->part == SHARD_JOINER)
		(void)is_joiners(s, TOUCH_ACCEPT);
	set_mark(s, 0);
	log_info("fd %d: the keeper is there again", fd);
	return 0;
}

int shard_hold(const struct sys *sys, struct shard *s, int fd)
{
	struct shard_watches none = { .n = 0 };
	struct shard before = { .counter = s->counter };
	int r;

	pthread_mutex_lock(&claims);
	link_close(sys, s); /* a reservation of an address is no part in a socket */
	s->counter = &fdtab_uncounted;
	r = shard_claim(sys, s, fd, WIRE_WANT_HOLD, &none, true, true);
	set_mark(s, r == 0 ? FDTAB_CLAIM : 0);
	link_unmap_counter(&before);
	pthread_mutex_unlock(&claims);
	return r;
}

int shard_reclaim(const struct sys *sys, struct shard *s, int fd)
{
	int64_t asked = link_now_ms();
	int r = 0;

	pthread_mutex_lock(&claims);
	if (link_is_lost(sys, s)) /* else another thread was quicker, or has tried in vain meanwhile */
		r = asked < s->retry_at ? -EAGAIN : reclaim(sys, s, fd);
	pthread_mutex_unlock(&claims);
	return r;
}

void shard_before_fork(const struct sys *sys)
{
	bool masked = !atomic_load(&init_sandboxed);
	sigset_t all, mask;

	sigfillset(&all);
	masked = masked && pthread_sigmask(SIG_BLOCK, &all, &mask) == 0;
	pthread_mutex_lock(&claims);
	fork_masked = masked;
	if (masked)
		fork_mask = mask;
	if (!forked && init_is_self() && !atomic_load(&init_sandboxed))
		shard_hold_unknown(sys);
	forked = true;
}

void shard_after_fork(bool child)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
	sigset_t mask = fork_mask;
	bool masked = fork_masked;

	shard_epoll_forked();
	if (child)
		memcpy(&claims, &fresh, sizeof(claims));
	else
		pthread_mutex_unlock(&claims);
	if (masked)
		(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

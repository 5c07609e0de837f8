/* The launcher's connection to the keeper: reserves the slots, hears who has joined. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../util/log.h"
#include "cli.h"
#include "run.h"

/* The keeper tells a launcher that died from one whose connection broke by it; -1: too old a
 * kernel. */
static int own_pidfd(const struct run *r)
{
#ifdef SYS_pidfd_open
	return (int)r->sys->syscall(SYS_pidfd_open, (long)getpid(), 0L);
#else
	(void)r;
	return -1;
#endif
}

static int ask_slots(struct run *r, struct keeper_client *client, uint32_t *ret_first,
		     uint32_t *ret_held)
{
	struct wire_packet p;
	int result;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_REGISTER;
	memcpy(p.body.reg.group, r->group, sizeof(p.body.reg.group));
	p.body.reg.n = r->n;
	p.body.reg.first = r->first; /* 0 at first; after a keeper's end the slots it had */
	result = keeper_ask(r->sys, client, &p);
	wire_close_fds(r->sys, &p);
	if (result < 0)
		return result;
	if (p.head.type != WIRE_REGISTER)
		return -EPROTO;
	*ret_first = p.body.reg.first;
	*ret_held = p.body.reg.held;
	return 0;
}

/* Copies that accept nothing would not notice that the keeper is another one. */
static void wake_copies(struct run *r, struct keeper_client *client)
{
	for (unsigned i = 0; i < r->n_addrs; i++) {
		struct wire_packet p;

		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_WAKE;
		p.body.slot.addr = r->addrs[i];
		(void)keeper_tell(r->sys, client, &p);
	}
}

static void remember_address(struct run *r, const struct addr *a)
{
	for (unsigned i = 0; i < r->n_addrs; i++)
		if (addr_equal(&r->addrs[i], a))
			return;
	if (r->n_addrs < RUN_ADDRS_MAX)
		r->addrs[r->n_addrs++] = *a;
}

int run_keeper_open(struct run *r)
{
	struct keeper_client client;
	uint32_t first = 0, held = 0;
	int pidfd = own_pidfd(r), result;

	result = keeper_connect(r->sys, &r->where, WIRE_LAUNCHER, pidfd, &client);
	if (pidfd >= 0)
		close(pidfd);
	if (result != 0)
		return result;
	result = ask_slots(r, &client, &first, &held);
	if (result != 0) {
		close(client.fd);
		return result;
	}
	if (!r->registered)
		r->first = first; /* what is held there is not of ours */
	else
		r->held = held; /* copies were quicker */
	if (r->first != first)
		log_warn(
			"the new keeper counts our copies from slot %u, they have slots from %u on",
			first, r->first);
	wake_copies(r, &client);
	r->keeper = client;
	r->registered = true;
	r->keeper_tries = 0;
	r->keeper_at = RUN_NEVER;
	return 0;
}

/* The connection is of no more use: look for a keeper again. */
static void lost(struct run *r, int result)
{
	close(r->keeper.fd);
	r->keeper.fd = -1;
	r->held = 0;
	r->answered = 0;
	r->last_event = 0;
	if (r->stop != RUN_RUNS)
		return;
	log_warn("the keeper (pid %u) is gone (%s): sharing goes on as it is, trying to reach or "
		 "start one",
		 r->keeper.keeper_pid, result == 0 ? "connection ended" : strerror(-result));
	r->keeper_at = cli_now_ms() + run_rules_backoff(1);
}

static void take_event(struct run *r, uint16_t type, const struct wire_slot *slot)
{
	struct run_history *h;

	if (slot->slot < r->first || slot->slot - r->first >= r->n)
		return;
	if (type == WIRE_EVENT_GONE) {
		r->held -= r->held > 0;
		return;
	}
	r->held++;
	remember_address(r, &slot->addr);
	h = &r->copies[slot->slot - r->first].history;
	h->joined = true;
	h->ever = true;
	h->failed_starts = 0;
}

void run_keeper_receive(struct run *r)
{
	struct wire_packet p;
	int result;

	while (r->keeper.fd >= 0) {
		result = wire_receive(r->sys, r->keeper.fd, MSG_DONTWAIT, &p);
		if (result == -EAGAIN)
			return;
		if (result <= 0) {
			lost(r, result);
			return;
		}
		wire_close_fds(r->sys, &p);
		if (p.head.type == WIRE_EVENT_LIVE || p.head.type == WIRE_EVENT_GONE) {
			if (p.head.result == 0 || p.head.result != r->last_event)
				take_event(r, p.head.type, &p.body.slot);
			r->last_event = p.head.result;
		} else {
			r->answered = p.head.seq;
		}
	}
}

/* Takes events until something is so: 0, -ETIMEDOUT, or -ECONNRESET when the keeper is gone. */
static int wait_for(struct run *r, bool (*done)(const struct run *r))
{
	int64_t end = cli_now_ms() + KEEPER_DEADLINE_MS;

	for (;;) {
		struct pollfd p = {.fd = r->keeper.fd, .events = POLLIN};
		int64_t now = cli_now_ms();

		run_keeper_receive(r);
		if (r->keeper.fd < 0)
			return -ECONNRESET;
		if (done(r))
			return 0;
		if (now >= end)
			return -ETIMEDOUT;
		poll(&p, 1, (int)(end - now));
	}
}

static bool is_answered(const struct run *r)
{
	return r->answered == r->keeper.seq;
}

static bool is_free(const struct run *r)
{
	return r->held == 0;
}

void run_keeper_retry(struct run *r, int64_t now)
{
	if (now < r->keeper_at || r->stop != RUN_RUNS)
		return;
	if (run_keeper_open(r) == 0) {
		log_warn("the keeper is back (pid %u)", r->keeper.keeper_pid);
		return;
	}
	r->keeper_tries++;
	r->keeper_at = cli_now_ms() + run_rules_backoff(r->keeper_tries + 1);
}

void run_keeper_stopping(struct run *r)
{
	struct wire_packet p;
	int result;

	if (r->keeper.fd < 0)
		return;
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STOPPING;
	/* not keeper_ask(): the events that come before the answer count */
	result = keeper_tell(r->sys, &r->keeper, &p);
	if (result == 0)
		result = wait_for(r, is_answered);
	if (result < 0)
		log_warn("the keeper does not answer (%s): it may take what ends now as crashed",
			 strerror(-result));
}

void run_keeper_settle(struct run *r)
{
	if (r->keeper.fd < 0)
		return;
	(void)wait_for(r, is_free); /* a process that a copy left behind may hold its socket */
	close(r->keeper.fd);
	r->keeper.fd = -1;
}

void run_keeper_give_up(struct run *r, unsigned k)
{
	struct wire_packet p;

	if (r->keeper.fd < 0)
		return;
	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_GIVE_UP;
	p.body.slot.slot = r->first + k;
	(void)keeper_tell(r->sys, &r->keeper, &p); /* a broken connection shows when we receive */
}

/* The keeper's table as packets: one per launcher, group, held socket and stranger. */
#include "request.h"

#include <errno.h>
#include <string.h>

#include "claim.h"
#include "group.h"
#include "member.h"
#include "peer.h"
#include "process.h"
#include "review.h"

#define STRANGERS_SHOWN 16
#define STATUS_WAIT_MS  20 /* and ten times that for one packet at the most */

static int send_packet(struct keeper *k, const struct conn *c, struct wire_packet *p, uint32_t seq)
{
	p->head.seq = seq;
	p->head.result = 0;
	p->n_fds = 0;
	for (int tries = 0; tries < 10; tries++) {
		struct pollfd out = { .fd = c->fd, .events = POLLOUT };
		int r = wire_send(k->sys, c->fd, p, MSG_DONTWAIT);

		if (r != -EAGAIN)
			return r;
		(void)k->sys->poll(&out, 1, STATUS_WAIT_MS); /* a reader that is slow */
	}
	return -ETIMEDOUT;
}

/* Whose worker its owner is; 0: nobody's. Who bound the socket may have ended since (a daemon), or be
 * the master before this one (a new binary); and a parent may be one that only took in an orphan, or
 * a shell: a master has the preload, and that of the process that joined has the socket too (unless
 * another worker claimed that first, and it has one made for it). */
static uint32_t master_of(const struct keeper *k, const struct member *m)
{
	bool joined = m->binder == m->pid;
	uint32_t parent;

	if (m->pid == 0)
		return process_exiting(m->binder) ? 0 : m->binder;
	if (joined && group_supervised(k, m->group, m->slot))
		return 0;
	parent = process_parent(m->pid);
	if (parent > 1 && parent != m->binder && process_maps_library(parent) &&
	    (!joined || m->made || review_holds(m, parent) == 1))
		return parent;
	if (joined || process_exiting(m->binder) || !process_may_descend(m->pid, m->binder))
		return 0;
	return m->binder;
}

static int send_slot(struct keeper *k, const struct conn *c, struct member *m, uint32_t seq)
{
	const struct group *g = &k->groups[m->group];
	const struct slot_stat *stat = &g->slots[m->slot];
	struct wire_packet p;
	struct wire_status_slot *s = &p.body.status_slot;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS_SLOT;
	s->slot = m->slot;
	s->pid = m->pid;
	s->generation = m->generation;
	s->state = m->state;
	s->weight = m->weight;
	s->buckets = member_takes(m) ? bucket_count(&g->table, (uint16_t)m->slot) : 0;
	s->queue = member_queue(k, m);
	s->supervised = group_supervised(k, m->group, m->slot);
	s->accepted = stat->accepted + member_accepted(m);
	s->given = stat->given;
	s->parent = master_of(k, m);
	s->owners = claim_owners(k, (int)(m - k->members));
	return send_packet(k, c, &p, seq);
}

static int send_strangers(struct keeper *k, const struct conn *c, int group, uint32_t seq)
{
	static struct os_listener strangers[STRANGERS_SHOWN];
	size_t n = group_strangers(k, group, strangers, STRANGERS_SHOWN);

	for (size_t i = 0; i < n; i++) {
		struct wire_packet p;
		struct wire_status_stranger *s = &p.body.stranger;
		int index = index_find(&k->groups[group].map, strangers[i].cookie);
		int r;

		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_STATUS_STRANGER;
		s->uid = strangers[i].uid;
		s->addr = strangers[i].addr;
		s->index = index < 0 ? UINT32_MAX : (uint32_t)index;
		s->pid = process_holder(strangers[i].inode, s->command, sizeof(s->command));
		r = send_packet(k, c, &p, seq);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send_group(struct keeper *k, const struct conn *c, int group, uint32_t seq)
{
	const struct group *g = &k->groups[group];
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS_GROUP;
	p.body.group.addr = g->addr;
	memcpy(p.body.group.group, g->name, sizeof(p.body.group.group));
	p.body.group.mode = g->mode;
	p.body.group.key = g->key;
	p.body.group.steered = g->steered;
	p.body.group.buckets = g->table.n;
	p.body.group.lost = g->lost;
	memcpy(p.body.group.why, g->why, sizeof(p.body.group.why));
	r = send_packet(k, c, &p, seq);
	for (uint32_t slot = 0; r >= 0 && slot < BUCKETS_MAX; slot++) {
		if (g->slots[slot].generation == 0)
			continue;
		for (int i = 0; r >= 0 && i < k->member_top; i++) {
			struct member *m = &k->members[i];

			if (m->used && m->group == group && m->slot == slot && m->state != WIRE_STARTING)
				r = send_slot(k, c, m, seq);
		}
	}
	return r < 0 ? r : send_strangers(k, c, group, seq);
}

/* Who listens to nobody any more is not listed: its pid may be another's soon. */
static int send_launchers(struct keeper *k, const struct conn *c, uint32_t seq)
{
	uint64_t pid_space = process_pid_space();

	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *l = &k->conn[i];
		struct wire_packet p;
		struct wire_status_launcher *s = &p.body.launcher;
		uint32_t uid;
		int r;

		if (!l->used || l->role != WIRE_LAUNCHER || l->n == 0 || l->fd == NONE || l->dead)
			continue;
		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_STATUS_LAUNCHER;
		if (peer_identify(k->sys, l->fd, &uid, &s->pid) < 0) /* l->pid may be hearsay */
			s->pid = 0;
		s->first = l->first;
		s->n = l->n;
		s->stopping = l->stopping;
		s->pid_space = pid_space;
		memcpy(s->group, l->launch, sizeof(s->group));
		r = send_packet(k, c, &p, seq);
		if (r < 0)
			return r;
	}
	return 0;
}

int status_send(struct keeper *k, const struct conn *c, uint32_t seq)
{
	int r = send_launchers(k, c, seq);

	for (int i = 0; r >= 0 && i < k->group_top; i++)
		if (k->groups[i].used)
			r = send_group(k, c, i, seq);
	return r < 0 ? r : 0;
}

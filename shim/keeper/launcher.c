/* See launcher.h. */
#include "launcher.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "nudge.h"
#include "request.h"
#include "review.h"

/* Of these no event tells any more. */
static uint32_t joined_already(const struct keeper *k, const struct conn *launcher)
{
	uint32_t n = 0;

	for (int i = 0; i < k->member_top; i++) {
		const struct member *m = &k->members[i];

		n += m->used && m->state != WIRE_STARTING && m->slot >= launcher->first &&
		     m->slot < launcher->first + launcher->n &&
		     strcmp(launcher->launch, k->groups[m->group].name) == 0;
	}
	return n;
}

int launcher_register(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	struct wire_register *reg = &p->body.reg;
	uint32_t seq = p->head.seq, first = reg->first;

	if (c->role != WIRE_LAUNCHER || c->state != CONN_READY || c->n != 0 ||
	    !memchr(reg->group, '\0', sizeof(reg->group)) || reg->n == 0 || reg->n > BUCKETS_MAX ||
	    reg->first >= BUCKETS_MAX)
		return -EPROTO;
	for (int i = 0; i < k->conn_top; i++) {
		const struct conn *o = &k->conn[i];

		if (o->used && o->n > 0 && strcmp(o->launch, reg->group) == 0 &&
		    first < o->first + o->n && o->first < first + reg->n) {
			first = o->first + o->n;
			i = -1; /* look again from the new place */
		}
	}
	if (first + reg->n > BUCKETS_MAX)
		return request_reply(k, c, p, seq, -ENOSPC);
	memcpy(c->launch, reg->group, sizeof(c->launch));
	c->first = reg->first = first;
	c->n = reg->n;
	reg->held = joined_already(k, c);
	return request_reply(k, c, p, seq, 0);
}

/* Only what nobody here holds: whoever is known already has no need to be woken. */
int launcher_wake(struct keeper *k, int conn, struct wire_packet *p)
{
	const struct addr a = p->body.slot.addr;
	uint32_t seq = p->head.seq;
	int r = 0;

	if (k->conn[conn].n == 0 || a.port == 0 || (a.family != AF_INET && a.family != AF_INET6))
		return -EPROTO;
	for (int i = 0; i < k->group_top; i++)
		if (k->groups[i].used && addr_equal(&k->groups[i].addr, &a))
			return request_reply(k, &k->conn[conn], p, seq, 0);
	if (a.proto == IPPROTO_TCP)
		r = nudge_knock(k, &a);
	return request_reply(k, &k->conn[conn], p, seq, r);
}

int launcher_word(struct keeper *k, int conn, struct wire_packet *p)
{
	struct conn *c = &k->conn[conn];
	uint32_t seq = p->head.seq, slot = p->body.slot.slot;

	if (c->n == 0)
		return -EPROTO;
	if (p->head.type == WIRE_STOPPING)
		c->stopping = true;
	else if (slot >= c->first && slot < c->first + c->n)
		c->given_up[slot / 8] |= (uint8_t)(1u << (slot % 8));
	else
		return -EPROTO;
	for (int i = 0; i < k->member_top; i++)
		if (k->members[i].used && k->members[i].state == WIRE_ORPHAN &&
		    strcmp(k->groups[k->members[i].group].name, c->launch) == 0)
			review_member(k, i);
	return request_reply(k, c, p, seq, 0);
}

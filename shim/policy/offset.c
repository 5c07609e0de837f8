/* Mode offset before anything binds: which ports the slots get, and what is in their way. */
#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "parse.h"

#define PORT_MAX 65535u

/* Port @port of slot @slot cannot be: it is past the end, or @other's. */
struct clash {
	unsigned port, slot; /* as written, and whose */
	const struct policy_rule *other; /* NULL: past the end */
	unsigned other_slot; /* where that one is an offset too */
};

static bool addresses_overlap(const struct policy_rule *a, const struct policy_rule *b)
{
	unsigned prefix = a->prefix < b->prefix ? a->prefix : b->prefix;

	if (a->family == AF_UNSPEC || b->family == AF_UNSPEC)
		return true;
	if (a->family != b->family || memcmp(a->ip, b->ip, prefix / 8) != 0)
		return false;
	return prefix % 8 == 0 ||
	       ((a->ip[prefix / 8] ^ b->ip[prefix / 8]) & (uint8_t)(0xff00u >> prefix % 8)) == 0;
}

static bool is_in_question(const struct policy_rule *a, const struct policy_rule *b)
{
	return a != b && (a->protos & b->protos) != 0 && b->mode != POLICY_OFF && !b->any_port &&
	       addresses_overlap(a, b);
}

/* The lowest port that the slot's distance takes from a's ports to b's; 0: none. The first match wins:
 * what a rule in front has taken is not the later one's. */
static unsigned hit(const struct policy_rule *a, const struct policy_rule *b, unsigned distance)
{
	unsigned low = a->port_first + distance;
	unsigned high = a->port_last + distance;

	if (low < b->port_first)
		low = b->port_first;
	if (high > b->port_last)
		high = b->port_last;
	if (a < b && low <= a->port_last)
		low = a->port_last + 1u;
	return low <= high ? low : 0;
}

/* Slot @slot of rule @a, and everybody else who may be there: slots from @first on. */
static bool clashes(const struct policy *policy, const struct policy_rule *a, unsigned first,
		    unsigned slot, struct clash *ret)
{
	*ret = (struct clash){.port = a->port_last, .slot = slot};
	if (a->port_last + slot > PORT_MAX)
		return true;
	for (size_t i = 0; i < policy->n; i++) {
		const struct policy_rule *b = &policy->rules[i];
		bool moves = b->mode == POLICY_OFFSET;
		unsigned distance = moves ? slot - first : slot;
		unsigned port;

		if (!is_in_question(a, b) || distance == 0)
			continue;
		port = hit(a, b, distance);
		if (port == 0)
			continue;
		ret->port = port - distance;
		ret->other = b;
		ret->other_slot = first;
		return true;
	}
	return false;
}

static void explain(const struct clash *c, char *buf, size_t size)
{
	char place[40];
	char target[96];
	unsigned got = c->port + c->slot;

	if (!c->other) {
		snprintf(buf, size, "port %u + slot %u, offset, is %u, past %u", c->port, c->slot, got,
			 PORT_MAX);
		return;
	}
	policy_place(c->other, place, sizeof(place));
	policy_target(c->other, target, sizeof(target));
	if (c->other->mode == POLICY_OFFSET)
		snprintf(buf, size, "port %u + slot %u, offset, is %u, and so is %u + slot %u of the rule "
			 "at %s (%s)", c->port, c->slot, got, got - c->other_slot, c->other_slot, place,
			 target);
	else
		snprintf(buf, size, "port %u + slot %u, offset, is %u, a port of the rule at %s (%s)",
			 c->port, c->slot, got, place, target);
}

int policy_offset_check(const char *source, const struct policy *policy, unsigned first, unsigned n,
			struct policy_error *ret_error)
{
	char name[96];
	char place[40];
	char why[224];
	struct clash c;

	for (size_t i = 0; i < policy->n; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->mode != POLICY_OFFSET || rule->any_port)
			continue;
		for (unsigned slot = first; slot < first + n; slot++) {
			if (!clashes(policy, rule, first, slot, &c))
				continue;
			explain(&c, why, sizeof(why));
			snprintf(ret_error->text, sizeof(ret_error->text), "%s: %s: %s",
				 parse_source(source, name, sizeof(name)),
				 policy_place(rule, place, sizeof(place)), why);
			return -EINVAL;
		}
	}
	return 0;
}

unsigned policy_offset_room(const struct policy *policy, size_t i, char *buf, size_t size)
{
	struct clash c;

	for (unsigned slot = 1; slot < POLICY_SLOTS_MAX; slot++) {
		if (!clashes(policy, &policy->rules[i], 0, slot, &c))
			continue;
		explain(&c, buf, size);
		return slot;
	}
	return POLICY_SLOTS_MAX;
}

/* `status` for people: a head per shared address, a line per held socket. */
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>

#include "../policy/parse.h"
#include "../policy/policy.h"
#include "status.h"

static void slots(FILE *to, const struct status_group *g)
{
	size_t i;

	fprintf(to, "  %4s  %8s  %3s  %-8s  %6s  %7s  %5s  %5s  %12s  %8s\n", "slot", "pid", "gen",
		"state", "weight", "buckets", "share", "queue", "accepted", "given");
	for (i = 0; i < g->n_slots; i++) {
		const struct wire_status_slot *s = &g->slots[i];
		double share = g->head.buckets ? 100.0 * s->buckets / g->head.buckets : 0;

		fprintf(to,
			"  %4" PRIu32 "  %8" PRIu32 "  %3" PRIu32 "  %-8s  %6" PRIu32 "  %7" PRIu32
			"  %4.0f%%  %5" PRIu32 "  %12" PRIu64 "  %8" PRIu64,
			s->slot, s->pid, s->generation, status_state(s->state), s->weight,
			s->buckets, share, s->queue, s->accepted, s->given);
		if (s->parent != 0)
			fprintf(to, "  worker of %" PRIu32, s->parent);
		else if (!s->supervised)
			fputs("  unsupervised", to);
		if (s->owners > 1)
			fprintf(to, "  %" PRIu32 " processes accept", s->owners);
		fputc('\n', to);
	}
}

static void strangers(FILE *to, const struct status_group *g)
{
	char address[ADDR_TEXT_MAX], name[sizeof(g->strangers->command) * 4];
	size_t i;

	for (i = 0; i < g->n_strangers; i++) {
		const struct wire_status_stranger *s = &g->strangers[i];

		parse_quote(s->command, strlen(s->command), sizeof(name) - 1, name, sizeof(name));
		fprintf(to,
			"  stranger on this port: %s (pid %" PRIu32 ", uid %" PRIu32
			") at %s, gets "
			"%s\n",
			name[0] ? name : "?", s->pid, s->uid,
			addr_format(&s->addr, address, sizeof(address)),
			g->head.steered ? "no new connections" : "its share by the system's hash");
	}
}

static void group(FILE *to, const struct status_group *g)
{
	bool by_key = g->head.mode == POLICY_BALANCE;
	char address[ADDR_TEXT_MAX];

	fprintf(to, "\n%s %s  group \"%s\"  %s%s%s  ",
		g->head.addr.proto == IPPROTO_UDP ? "udp" : "tcp",
		addr_format(&g->head.addr, address, sizeof(address)), g->head.group,
		policy_mode_name((enum policy_mode)g->head.mode), by_key ? " by " : "",
		!by_key ? "" : policy_key_name((enum policy_key)g->head.key));
	if (g->head.steered)
		fprintf(to, "%" PRIu32 " buckets", g->head.buckets);
	else if (g->head.mode == WIRE_MODE_SHARED)
		fputs("one queue", to);
	else
		fprintf(to, "not steered: %s", g->head.why[0] ? g->head.why : "no reason given");
	fprintf(to, "  %" PRIu64 " lost\n", g->head.lost);
	slots(to, g);
	strangers(to, g);
}

void status_table(FILE *to, const struct status *s)
{
	size_t i;

	fprintf(to, "keeper: pid %" PRIu32 ", version %s", s->keeper_pid, s->keeper.version);
	if (s->keeper.vault != 0)
		fprintf(to, ", vault: pid %" PRIu32, s->keeper.vault);
	fputc('\n', to);
	if (s->keeper.service[0] != '\0')
		fprintf(to, "keeper: lives and dies with %s\n", s->keeper.service);
	for (i = 0; i < s->n_groups; i++)
		group(to, &s->groups[i]);
	if (s->n_groups == 0)
		fprintf(to, "nothing is shared\n");
}

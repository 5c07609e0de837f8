/* `status --json`: a published format, later versions only add to it. */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "../policy/policy.h"
#include "status.h"

/* Length of the UTF-8 character at s (RFC 3629); 0: there is none. */
static size_t utf8_length(const unsigned char *s)
{
	size_t n, i;

	if (s[0] < 0x80)
		return 1;
	n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : s[0] >= 0xe0 && s[0] <= 0xef ? 3 : 4;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0; /* overlong, surrogate, beyond U+10FFFF */
	return n;
}

/* RFC 8259: what is no UTF-8 (a process may be called anything) becomes U+FFFD. */
static void text(FILE *to, const char *string)
{
	const unsigned char *s = (const unsigned char *)string;

	fputc('"', to);
	while (*s != '\0') {
		size_t n = utf8_length(s);

		if (n == 0) {
			fputs("\\ufffd", to);
			n = 1;
		} else if (*s == '"' || *s == '\\') {
			fprintf(to, "\\%c", *s);
		} else if (*s < 0x20 || *s == 0x7f) {
			fprintf(to, "\\u%04x", *s);
		} else {
			fwrite(s, 1, n, to);
		}
		s += n;
	}
	fputc('"', to);
}

static void named(FILE *to, const char *name, const char *value)
{
	fprintf(to, "\"%s\":", name);
	text(to, value);
}

static void stranger(FILE *to, const struct wire_status_stranger *s)
{
	char address[ADDR_TEXT_MAX];

	fprintf(to, "{\"pid\":%" PRIu32 ",\"uid\":%" PRIu32 ",", s->pid, s->uid);
	named(to, "command", s->command);
	fputc(',', to);
	named(to, "address", addr_format(&s->addr, address, sizeof(address)));
	if (s->index == UINT32_MAX)
		fputs(",\"index\":null}", to);
	else
		fprintf(to, ",\"index\":%" PRIu32 "}", s->index);
}

static void slot(FILE *to, const struct wire_status_slot *s)
{
	fprintf(to, "{\"slot\":%" PRIu32 ",\"pid\":%" PRIu32 ",\"generation\":%" PRIu32 ",",
		s->slot, s->pid, s->generation);
	named(to, "state", status_state(s->state));
	fprintf(to,
		",\"weight\":%" PRIu32 ",\"buckets\":%" PRIu32 ",\"queue\":%" PRIu32
		",\"accepted\":%" PRIu64 ",\"given\":%" PRIu64 ",\"supervised\":%s",
		s->weight, s->buckets, s->queue, s->accepted, s->given,
		s->supervised ? "true" : "false");
	if (s->parent == 0)
		fputs(",\"parent\":null", to);
	else
		fprintf(to, ",\"parent\":%" PRIu32, s->parent);
	fprintf(to, ",\"owners\":%" PRIu32 "}", s->owners);
}

static void group(FILE *to, const struct status_group *g)
{
	char address[ADDR_TEXT_MAX];
	size_t i;

	fputc('{', to);
	named(to, "proto", g->head.addr.proto == IPPROTO_UDP ? "udp" : "tcp");
	fputc(',', to);
	named(to, "address", addr_format(&g->head.addr, address, sizeof(address)));
	fputc(',', to);
	named(to, "group", g->head.group);
	fputc(',', to);
	named(to, "mode", policy_mode_name((enum policy_mode)g->head.mode));
	fputc(',', to);
	named(to, "key", policy_key_name((enum policy_key)g->head.key));
	fprintf(to, ",\"steered\":%s,\"buckets\":%" PRIu32 ",\"lost\":%" PRIu64 ",\"strangers\":[",
		g->head.steered ? "true" : "false", g->head.buckets, g->head.lost);
	for (i = 0; i < g->n_strangers; i++) {
		fputs(i ? "," : "", to);
		stranger(to, &g->strangers[i]);
	}
	fputs("],\"slots\":[", to);
	for (i = 0; i < g->n_slots; i++) {
		fputs(i ? "," : "", to);
		slot(to, &g->slots[i]);
	}
	fputs("]}", to);
}

void status_json(FILE *to, const struct status *s)
{
	size_t i;

	if (s == NULL) {
		fputs("{\"keeper\":null,\"groups\":[]}\n", to);
		return;
	}
	fprintf(to, "{\"keeper\":{\"pid\":%" PRIu32 ",\"vault\":", s->keeper_pid);
	if (s->keeper.vault == 0)
		fputs("null,", to);
	else
		fprintf(to, "%" PRIu32 ",", s->keeper.vault);
	named(to, "version", s->keeper.version);
	fputs("},\"groups\":[", to);
	for (i = 0; i < s->n_groups; i++) {
		fputs(i ? "," : "", to);
		group(to, &s->groups[i]);
	}
	fputs("]}\n", to);
}

/* libFuzzer entry for the policy language: any bytes give rules that work, or one clean line. */
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort(); /* libFuzzer reports it with the input */
}

static void check_error(const struct policy_error *e)
{
	size_t n = strnlen(e->text, sizeof(e->text));

	require(n > 0 && n < sizeof(e->text));
	for (size_t i = 0; i < n; i++)
		require(e->text[i] >= 0x20 && e->text[i] < 0x7f);
	require(strncmp(e->text, "fuzz: ", 6) == 0);
}

static void check_rule(const struct policy_rule *r)
{
	char words[512];
	char few[16];
	size_t n;

	memset(words, 'x', sizeof(words));
	require(policy_describe(r, words, sizeof(words)) == words);
	n = strnlen(words, sizeof(words));
	require(n > 0 && n < sizeof(words) - 1);
	policy_describe(r, few, sizeof(few));
	require(strncmp(few, words, sizeof(few) - 1) == 0 && few[sizeof(few) - 1] == '\0');

	require(r->protos >= 1 && r->protos <= 3 && r->column >= 1);
	require(r->port_first >= 1 && r->port_first <= r->port_last);
	require(r->mode <= POLICY_OFF && r->key <= POLICY_KEY_RANDOM);
	require(r->hold_ms >= -1 && r->hold_ms <= 86400000);
	require(r->stuck_ms >= -1 && r->stuck_ms <= 3600000);
	require(r->prefix <= (r->family == AF_INET6 ? 128 : r->family == AF_INET ? 32 : 0));
}

/* An address made from a rule meets that rule or an earlier one; any address is answered. */
static void check_match(const struct policy *p, const uint8_t *data, size_t size)
{
	struct addr a = {0};

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		a.proto = r->protos & POLICY_TCP ? IPPROTO_TCP : IPPROTO_UDP;
		a.family = r->family == AF_UNSPEC ? AF_INET : r->family;
		a.port = r->port_last;
		memcpy(a.ip, r->ip, sizeof(a.ip));
		const struct policy_rule *m = policy_match(p, &a);
		require(m && m <= r);
	}
	memcpy(&a, data, size < sizeof(a) ? size : sizeof(a));
	policy_match(p, &a);
}

/* What is refused has a reason; one copy never is; more than there is room for are. */
static void check_offsets(const struct policy *p, size_t size)
{
	struct policy_error e;
	unsigned n = 1 + (unsigned)(size % 8);
	char why[256];

	require(policy_offset_check("fuzz", p, 0, 1, &e) == 0);
	memset(&e, 'x', sizeof(e));
	if (policy_offset_check("fuzz", p, 0, n, &e) < 0)
		check_error(&e);
	for (size_t i = 0; i < p->n; i++) {
		if (p->rules[i].mode != POLICY_OFFSET || p->rules[i].any_port)
			continue;
		unsigned room = policy_offset_room(p, i, why, sizeof(why));
		require(room >= 1 && room <= POLICY_SLOTS_MAX);
		if (room < n)
			require(policy_offset_check("fuzz", p, 0, n, &e) < 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_error e;
	struct policy p;
	int r;

	memset(&e, 'x', sizeof(e));
	r = policy_parse("fuzz", (const char *)data, size, &p, &e);
	if (r < 0) {
		require(r == -EINVAL);
		check_error(&e);
		return 0;
	}
	require(r == 0 && p.n >= 1 && p.n <= POLICY_RULES_MAX);
	for (size_t i = 0; i < p.n; i++)
		check_rule(&p.rules[i]);
	check_match(&p, data, size);
	check_offsets(&p, size);
	return 0;
}

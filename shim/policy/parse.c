/* The policy language, rule by rule: mode and options here, the target in target.c. Every error
 * names the place, what was found and what is allowed there. */
#include "parse.h"

#include <errno.h>
#include <string.h>

#include "../util/num.h"

#define HOLD_MAX_MS  86400000
#define STUCK_MAX_MS 3600000

enum option { OPTION_KEY = 1, OPTION_HOLD = 2, OPTION_STUCK = 4 };

bool parse_is(struct parse_span s, const char *word)
{
	return s.n == strlen(word) && memcmp(s.at, word, s.n) == 0;
}

struct parse_span parse_until(struct parse_span *rest, const char *delimiters)
{
	struct parse_span piece = {.at = rest->at};

	/* strchr() would find the delimiters' own end for a NUL in the text */
	while (piece.n < rest->n && (!piece.at[piece.n] || !strchr(delimiters, piece.at[piece.n])))
		piece.n++;
	*rest = parse_skip(*rest, piece.n);
	return piece;
}

struct parse_span parse_skip(struct parse_span s, size_t n)
{
	return (struct parse_span){.at = s.at + n, .n = s.n - n};
}

static int parse_mode(const struct parse_text *t, struct parse_span mode, struct policy_rule *rule)
{
	for (int m = POLICY_BALANCE; m <= POLICY_OFF; m++) {
		if (parse_is(mode, policy_mode_name(m))) {
			rule->mode = (uint8_t)m;
			return 0;
		}
	}
	return parse_fail(t, mode, "balance, shared, handover, offset or off");
}

static int parse_key(const struct parse_text *t, struct parse_span key, struct policy_rule *rule)
{
	for (int k = POLICY_KEY_FLOW; k <= POLICY_KEY_RANDOM; k++) {
		if (parse_is(key, policy_key_name(k))) {
			rule->key = (uint8_t)k;
			return 0;
		}
	}
	return parse_fail(t, key, "flow, src, cpu or random");
}

/* Seconds with up to three decimals, in ms; -EINVAL or -ERANGE. */
static int seconds_parse(struct parse_span s, long max_ms, int32_t *ret_ms)
{
	struct parse_span whole = parse_until(&s, ".");
	long seconds;
	long part = 0;
	int r = num_parse(whole.at, whole.n, 0, max_ms / 1000, &seconds);

	if (r < 0)
		return r;
	if (s.n > 0) {
		s = parse_skip(s, 1);
		if (s.n > 3)
			return -EINVAL;
		r = num_parse(s.at, s.n, 0, 999, &part);
		if (r < 0)
			return r;
		for (size_t i = s.n; i < 3; i++)
			part *= 10;
	}
	if (seconds * 1000 + part > max_ms)
		return -ERANGE;
	*ret_ms = (int32_t)(seconds * 1000 + part);
	return 0;
}

static enum option option_named(struct parse_span name)
{
	if (parse_is(name, "key"))
		return OPTION_KEY;
	if (parse_is(name, "hold"))
		return OPTION_HOLD;
	return parse_is(name, "stuck") ? OPTION_STUCK : 0;
}

static int parse_option(const struct parse_text *t, struct parse_span text, unsigned *seen,
			struct policy_rule *rule)
{
	struct parse_span value = text;
	struct parse_span name = parse_until(&value, "=");
	enum option option = option_named(name);
	long ms;

	if (!option || value.n == 0)
		return parse_fail(t, text, "key=, hold= or stuck=");
	if (rule->mode == POLICY_OFF || rule->mode == POLICY_OFFSET)
		return parse_fail(t, text, "no option with mode %s", policy_mode_name(rule->mode));
	if (*seen & option)
		return parse_fail(t, text, "%.*s= once in a rule", (int)name.n, name.at);
	*seen |= option;

	value = parse_skip(value, 1);
	if (option == OPTION_KEY)
		return parse_key(t, value, rule);
	if (option == OPTION_HOLD) {
		if (seconds_parse(value, HOLD_MAX_MS, &rule->hold_ms) < 0)
			return parse_fail(t, value, "seconds 0-%d, with up to three decimals",
					  HOLD_MAX_MS / 1000);
		return 0;
	}
	if (num_parse(value.at, value.n, 0, STUCK_MAX_MS, &ms) < 0)
		return parse_fail(t, value, "milliseconds 0-%d", STUCK_MAX_MS);
	rule->stuck_ms = (int32_t)ms;
	return 0;
}

static int parse_rule(const struct parse_text *t, struct parse_span text,
		      struct policy_rule *ret_rule)
{
	struct policy_rule rule = {.hold_ms = -1, .stuck_ms = -1};
	struct parse_span rest = text;
	unsigned line;
	unsigned column;
	unsigned seen = 0;
	int r;

	parse_position(t, text.at, &line, &column);
	rule.line = (uint16_t)line;
	rule.column = (uint16_t)column;
	r = parse_target(t, parse_until(&rest, "=,"), &rule);
	if (r < 0)
		return r;
	if (rest.n > 0 && rest.at[0] == '=') {
		rest = parse_skip(rest, 1);
		r = parse_mode(t, parse_until(&rest, ","), &rule);
		if (r < 0)
			return r;
	}
	while (rest.n > 0) {
		rest = parse_skip(rest, 1);
		r = parse_option(t, parse_until(&rest, ","), &seen, &rule);
		if (r < 0)
			return r;
	}
	*ret_rule = rule;
	return 0;
}

int policy_parse(const char *source, const char *text, size_t n, struct policy *ret_policy,
		 struct policy_error *ret_error)
{
	struct parse_text t = {.source = source, .text = text, .n = n, .error = ret_error};
	struct parse_span rest = {.at = text, .n = n};
	struct policy policy = {0};

	if (n > POLICY_TEXT_MAX)
		return parse_fail(&t, parse_skip(rest, POLICY_TEXT_MAX), "at most %d bytes",
				  POLICY_TEXT_MAX);
	while (rest.n > 0) {
		struct parse_span rule = parse_until(&rest, ";\n");
		if (rest.n > 0)
			rest = parse_skip(rest, 1);
		if (rule.n == 0)
			continue;
		if (policy.n == POLICY_RULES_MAX)
			return parse_fail(&t, rule, "at most %d rules", POLICY_RULES_MAX);
		int r = parse_rule(&t, rule, &policy.rules[policy.n]);
		if (r < 0)
			return r;
		policy.n++;
	}
	if (policy.n == 0)
		return parse_fail(&t, rest, "at least one rule");
	*ret_policy = policy;
	return 0;
}

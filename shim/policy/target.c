/* The target of a rule: [PROTOCOL/][ADDRESS[/PREFIX]:]PORTS. Numeric addresses only. */
#include "parse.h"

#include <arpa/inet.h>
#include <string.h>

#include "../util/num.h"

#define PORT_MAX 65535

static const char allowed_ports[] = "a port 1-65535, a range or *";
static const char allowed_address[] = "an IPv4 address, an IPv6 address in brackets or *";

static bool contains(struct parse_span s, const char *any)
{
	parse_until(&s, any);
	return s.n > 0;
}

/* inet_pton() on a piece: false too for text that only begins with an address. */
static bool ip_parse(int family, struct parse_span s, uint8_t ip[16])
{
	char text[INET6_ADDRSTRLEN];

	if (s.n >= sizeof(text) || memchr(s.at, '\0', s.n))
		return false;
	memcpy(text, s.at, s.n);
	text[s.n] = '\0';
	memset(ip, 0, 16);
	return inet_pton(family, text, ip) == 1;
}

static int parse_ports(const struct parse_text *t, struct parse_span s, struct policy_rule *rule)
{
	struct parse_span last = s;
	struct parse_span first = parse_until(&last, "-");
	long from;
	long to;

	if (parse_is(s, "*")) {
		rule->any_port = true;
		rule->port_first = 1;
		rule->port_last = PORT_MAX;
		return 0;
	}
	if (num_parse(first.at, first.n, 1, PORT_MAX, &from) < 0)
		return parse_fail(t, s, "%s", allowed_ports);
	to = from;
	if (last.n > 0) {
		last = parse_skip(last, 1);
		if (num_parse(last.at, last.n, 1, PORT_MAX, &to) < 0)
			return parse_fail(t, last, "a port 1-%d", PORT_MAX);
	}
	if (from > to)
		return parse_fail(t, s, "a range from the lower port to the higher, %ld-%ld", to,
				  from);
	rule->port_first = (uint16_t)from;
	rule->port_last = (uint16_t)to;
	return 0;
}

/* Clears the bits past the prefix; returns whether one was set. */
static bool ip_mask(uint8_t *ip, unsigned bits, unsigned prefix)
{
	bool set = false;

	for (unsigned i = 0; i < bits / 8; i++) {
		unsigned left = prefix > i * 8 ? prefix - i * 8 : 0;
		uint8_t mask = left >= 8 ? 0xff : (uint8_t)(0xff00u >> left);

		set |= (ip[i] & ~mask) != 0;
		ip[i] &= mask;
	}
	return set;
}

/* @whole: address and prefix as written; @prefix: from the slash on, or empty */
static int parse_prefix(const struct parse_text *t, struct parse_span whole,
			struct parse_span prefix, struct policy_rule *rule)
{
	bool six = rule->family == AF_INET6;
	long bits = six ? 128 : 32;
	long value = bits;
	char ip[INET6_ADDRSTRLEN];

	if (prefix.n > 0) {
		prefix = parse_skip(prefix, 1);
		if (num_parse(prefix.at, prefix.n, 0, bits, &value) < 0)
			return parse_fail(t, prefix, "a prefix 0-%ld", bits);
	}
	if (ip_mask(rule->ip, (unsigned)bits, (unsigned)value)) {
		inet_ntop(rule->family, rule->ip, ip, sizeof(ip));
		return parse_fail(t, whole, "%s%s%s/%ld, no bits beyond the prefix", six ? "[" : "",
				  ip, six ? "]" : "", value);
	}
	rule->prefix = (uint8_t)value;
	return 0;
}

/* [ADDRESS][/PREFIX] at the head of *rest, which then begins at the colon */
static int parse_bracketed(const struct parse_text *t, struct parse_span *rest,
			   struct policy_rule *rule)
{
	struct parse_span whole = *rest;
	struct parse_span inner = parse_skip(*rest, 1);
	struct parse_span ip = parse_until(&inner, "]");
	struct parse_span prefix;
	int r;

	if (inner.n == 0)
		return parse_fail(t, whole, "an IPv6 address in brackets, as in [::1]:80");
	if (!ip_parse(AF_INET6, ip, rule->ip))
		return parse_fail(t, ip, "an IPv6 address");
	rule->family = AF_INET6;
	*rest = parse_skip(inner, 1);
	if (rest->n == 0 || (rest->at[0] != '/' && rest->at[0] != ':'))
		return parse_fail(t, *rest, "a colon and a port, or a slash and a prefix");
	prefix = parse_until(rest, ":");
	whole.n -= rest->n;
	if (rest->n == 0)
		return parse_fail(t, *rest, "a colon and a port");
	r = parse_prefix(t, whole, prefix, rule);
	if (r < 0)
		return r;

	/* Sockets are compared unmapped: a rule for ::ffff:1.2.3.4 is one for 1.2.3.4. */
	struct addr a = {.family = AF_INET6};
	memcpy(a.ip, rule->ip, sizeof(a.ip));
	a = addr_unmap(&a);
	if (a.family == AF_INET) {
		rule->family = AF_INET;
		rule->prefix -= 96;
		memcpy(rule->ip, a.ip, sizeof(a.ip));
	}
	return 0;
}

/* ADDRESS[/PREFIX] or * at the head of *rest, which holds a colon and then begins there */
static int parse_plain(const struct parse_text *t, struct parse_span *rest,
		       struct policy_rule *rule)
{
	struct parse_span all = *rest;
	struct parse_span whole = parse_until(rest, ":");
	struct parse_span prefix = whole;
	struct parse_span ip = parse_until(&prefix, "/");

	if (parse_is(ip, "*")) {
		if (prefix.n > 0)
			return parse_fail(t, prefix, "a colon and a port after *");
		return 0;
	}
	if (!ip_parse(AF_INET, ip, rule->ip)) {
		if (contains(parse_skip(*rest, 1), ":"))
			return parse_fail(t, all, "an IPv6 address in brackets, as in [::1]:80");
		return parse_fail(t, ip, "%s", allowed_address);
	}
	rule->family = AF_INET;
	return parse_prefix(t, whole, prefix, rule);
}

/* PROTOCOL/ at the head of *rest, if there is one: the first slash may belong to a prefix */
static int parse_proto(const struct parse_text *t, struct parse_span *rest,
		       struct policy_rule *rule)
{
	struct parse_span after = *rest;
	struct parse_span word = parse_until(&after, "/");

	rule->protos = POLICY_TCP;
	if (after.n == 0 || contains(word, ".:["))
		return 0;
	if (parse_is(word, "udp"))
		rule->protos = POLICY_UDP;
	else if (parse_is(word, "*"))
		rule->protos = POLICY_TCP | POLICY_UDP;
	else if (!parse_is(word, "tcp"))
		return parse_fail(t, word, "tcp, udp or *");
	*rest = parse_skip(after, 1);
	return 0;
}

int parse_target(const struct parse_text *t, struct parse_span target, struct policy_rule *rule)
{
	int r = parse_proto(t, &target, rule);

	if (r < 0)
		return r;
	rule->family = AF_UNSPEC;
	if (target.n > 0 && target.at[0] == '[')
		r = parse_bracketed(t, &target, rule);
	else if (contains(target, ":"))
		r = parse_plain(t, &target, rule);
	else
		return parse_ports(t, target, rule);
	if (r < 0)
		return r;
	return parse_ports(t, parse_skip(target, 1), rule);
}

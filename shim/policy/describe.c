/* Rules in words, and the words of the language. */
#include "parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct out {
	char *buf;
	size_t size;
	size_t used;
};

const char *policy_mode_name(enum policy_mode mode)
{
	switch (mode) {
	case POLICY_BALANCE:
		return "balance";
	case POLICY_SHARED:
		return "shared";
	case POLICY_HANDOVER:
		return "handover";
	case POLICY_OFFSET:
		return "offset";
	case POLICY_OFF:
		return "off";
	}
	return "?";
}

const char *policy_key_name(enum policy_key key)
{
	switch (key) {
	case POLICY_KEY_FLOW:
		return "flow";
	case POLICY_KEY_SRC:
		return "src";
	case POLICY_KEY_CPU:
		return "cpu";
	case POLICY_KEY_RANDOM:
		return "random";
	}
	return "?";
}

static const char *mode_words(enum policy_mode mode)
{
	switch (mode) {
	case POLICY_BALANCE:
		return "one queue per shard";
	case POLICY_SHARED:
		return "one queue for all shards";
	case POLICY_HANDOVER:
		return "the newest shard gets all new connections";
	case POLICY_OFFSET:
		return "not shared, slot k gets port + k";
	case POLICY_OFF:
		return "left alone";
	}
	return "?";
}

static void add(struct out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct out *o, const char *format, ...)
{
	va_list ap;
	int r;

	if (o->used >= o->size)
		return;
	va_start(ap, format);
	r = vsnprintf(o->buf + o->used, o->size - o->used, format, ap);
	va_end(ap);
	if (r > 0)
		o->used += (size_t)r; /* past the size when cut: then nothing follows */
}

static void add_target(struct out *o, const struct policy_rule *rule)
{
	static const char *const protos[] = {"?", "tcp", "udp", "tcp and udp"};
	char ip[INET6_ADDRSTRLEN] = "?";

	add(o, "%s, ", protos[rule->protos & (POLICY_TCP | POLICY_UDP)]);
	if (rule->family == AF_UNSPEC) {
		add(o, "any address, ");
	} else {
		bool six = rule->family == AF_INET6;

		inet_ntop(rule->family, rule->ip, ip, sizeof(ip));
		if (rule->prefix == (six ? 128 : 32))
			add(o, "address %s, ", ip);
		else
			add(o, "addresses %s/%u, ", ip, (unsigned)rule->prefix);
	}
	if (rule->any_port)
		add(o, "any port bound before the first accept");
	else if (rule->port_first == rule->port_last)
		add(o, "port %u", (unsigned)rule->port_first);
	else
		add(o, "ports %u-%u", (unsigned)rule->port_first, (unsigned)rule->port_last);
}

const char *policy_target(const struct policy_rule *rule, char *buf, size_t size)
{
	struct out o = {.buf = buf, .size = size};

	if (size > 0)
		buf[0] = '\0';
	add_target(&o, rule);
	return buf;
}

const char *policy_written(const struct policy_rule *rule, char *buf, size_t size)
{
	static const char *const protos[] = {"?", "tcp", "udp", "*"};
	struct out o = {.buf = buf, .size = size};
	bool six = rule->family == AF_INET6;
	char ip[INET6_ADDRSTRLEN] = "?";

	if (size > 0)
		buf[0] = '\0';
	add(&o, "%s/", protos[rule->protos & (POLICY_TCP | POLICY_UDP)]);
	if (rule->family != AF_UNSPEC) {
		inet_ntop(rule->family, rule->ip, ip, sizeof(ip));
		add(&o, six ? "[%s]" : "%s", ip);
		if (rule->prefix != (six ? 128 : 32))
			add(&o, "/%u", (unsigned)rule->prefix);
		add(&o, ":");
	}
	if (rule->any_port)
		add(&o, rule->family == AF_UNSPEC ? "*:*" : "*");
	else if (rule->port_first == rule->port_last)
		add(&o, "%u", (unsigned)rule->port_first);
	else
		add(&o, "%u-%u", (unsigned)rule->port_first, (unsigned)rule->port_last);
	return buf;
}

const char *policy_place(const struct policy_rule *rule, char *buf, size_t size)
{
	if (rule->line)
		snprintf(buf, size, "line %u column %u", (unsigned)rule->line,
			 (unsigned)rule->column);
	else
		snprintf(buf, size, "column %u", (unsigned)rule->column);
	return buf;
}

/* 10000: "10", 500: "0.5", 1234: "1.234" */
static void add_seconds(struct out *o, int32_t ms)
{
	int part = ms % 1000;
	int digits = 3;

	add(o, "%d", ms / 1000);
	if (part == 0)
		return;
	while (part % 10 == 0) {
		part /= 10;
		digits--;
	}
	add(o, ".%0*d", digits, part);
}

static void add_options(struct out *o, const struct policy_rule *rule)
{
	int32_t hold_ms = rule->hold_ms < 0 ? POLICY_HOLD_MS : rule->hold_ms;

	if (rule->mode == POLICY_BALANCE)
		add(o, "; key=%s", policy_key_name(rule->key));
	if (hold_ms == 0) {
		add(o, "; an orphan's queue is not held");
	} else {
		add(o, "; an orphan's queue is held ");
		add_seconds(o, hold_ms);
		add(o, " s");
	}
	if (rule->stuck_ms == 0)
		add(o, "; no shard counts as stuck");
	else if (rule->stuck_ms > 0)
		add(o, "; a shard counts as stuck after %d ms", (int)rule->stuck_ms);
}

const char *policy_describe(const struct policy_rule *rule, char *buf, size_t size)
{
	struct out o = {.buf = buf, .size = size};

	if (size > 0)
		buf[0] = '\0';
	add_target(&o, rule);
	add(&o, ": %s, %s", policy_mode_name(rule->mode), mode_words(rule->mode));
	if (rule->mode != POLICY_OFF && rule->mode != POLICY_OFFSET)
		add_options(&o, rule);
	return buf;
}

/* The policy language: text -> rules, and which rule an address meets. No sockets, no malloc; a
 * struct policy is plain data that may live in static memory. */
#ifndef SOCKSHARD_POLICY_POLICY_H
#define SOCKSHARD_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../util/addr.h"

#define POLICY_RULES_MAX 64
#define POLICY_TEXT_MAX  16384 /* bytes of a policy, also of an @FILE */
#define POLICY_DEFAULT   "tcp/*:*=balance"
#define POLICY_HOLD_MS   10000
#define POLICY_STUCK_MS  5000

#define POLICY_TCP 1u
#define POLICY_UDP 2u

enum policy_mode {
	POLICY_BALANCE,
	POLICY_SHARED,
	POLICY_HANDOVER,
	POLICY_OFFSET,
	POLICY_OFF,
};

enum policy_key { POLICY_KEY_FLOW, POLICY_KEY_SRC, POLICY_KEY_CPU, POLICY_KEY_RANDOM };

struct policy_rule {
	uint8_t protos;   /* POLICY_TCP | POLICY_UDP */
	uint8_t family;   /* AF_INET, AF_INET6, or AF_UNSPEC: any address */
	uint8_t prefix;   /* bits of ip that count */
	uint8_t mode;     /* enum policy_mode */
	uint8_t key;      /* enum policy_key */
	bool any_port;    /* written as *: only listeners bound before the first accept */
	uint16_t port_first;
	uint16_t port_last;
	uint8_t ip[16];   /* network order, as in struct addr */
	int32_t hold_ms;  /* -1: not written */
	int32_t stuck_ms; /* -1: not written; 0: never */
	uint16_t column;  /* of the rule's first character, from 1; with line, within that line */
	uint16_t line;    /* from 1; 0: the text has one line only */
};

struct policy {
	size_t n;
	struct policy_rule rules[POLICY_RULES_MAX];
};

struct policy_error {
	char text[256]; /* one line for the operator, without "sockshard: " in front */
};

/**
 * policy_parse - read rules
 * @source: what the text is called in messages: "SOCKSHARD_POLICY", "-p", or a file's path
 * @text: n bytes of rules, separated by ; or newline; empty rules are passed over
 *
 * Returns 0 and *ret_policy; -EINVAL and *ret_error, e.g. "SOCKSHARD_POLICY: column 7: found "80x",
 * allowed: a port 1-65535, a range or *".
 */
int policy_parse(const char *source, const char *text, size_t n, struct policy *ret_policy,
                 struct policy_error *ret_error);

/**
 * policy_load - as policy_parse, where text may be @FILE
 *
 * Also -errno of open(2) or read(2), -E2BIG for a file over POLICY_TEXT_MAX; always with *ret_error.
 */
int policy_load(const char *source, const char *text, struct policy *ret_policy,
                struct policy_error *ret_error);

/** policy_match - the first rule that covers the address; NULL when none does */
const struct policy_rule *policy_match(const struct policy *policy, const struct addr *addr);

/** policy_describe - one rule in words, as `sockshard check` shows it. Returns buf */
const char *policy_describe(const struct policy_rule *rule, char *buf, size_t size);

/** policy_target - what a rule covers: "tcp, any address, port 80". Returns buf */
const char *policy_target(const struct policy_rule *rule, char *buf, size_t size);

/** policy_written - what a rule covers, in the language: "tcp/80". Returns buf */
const char *policy_written(const struct policy_rule *rule, char *buf, size_t size);

/** policy_place - where it is written: "column 6". Returns buf */
const char *policy_place(const struct policy_rule *rule, char *buf, size_t size);

#define POLICY_SLOTS_MAX 1024

/**
 * policy_offset_check - can slots first .. first + n - 1 have the ports that rules with offset mean
 *
 * Not asked about rules with * as port: which ports these meet is known when the server binds.
 * Returns 0; -EINVAL and *ret_error, which names both ports and both rules, for the first slot whose
 * port is past 65535, or a port of another rule for the same protocol and an overlapping address
 * (not off), or the port of another slot by another rule with offset.
 */
int policy_offset_check(const char *source, const struct policy *policy, unsigned first, unsigned n,
                        struct policy_error *ret_error);

/**
 * policy_offset_room - how many slots, from 0 on, have the ports that one rule with offset means
 * @i: the rule
 *
 * Returns 1..POLICY_SLOTS_MAX; below that buf says what stops the next one.
 */
unsigned policy_offset_room(const struct policy *policy, size_t i, char *buf, size_t size);

/** the word of the language for a mode or key */
const char *policy_mode_name(enum policy_mode mode);
const char *policy_key_name(enum policy_key key);

#endif

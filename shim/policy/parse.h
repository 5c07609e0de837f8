/* Shared by the parts of the parser only: the text, a piece of it, and the one way to refuse it. */
#ifndef SOCKSHARD_POLICY_PARSE_H
#define SOCKSHARD_POLICY_PARSE_H

#include "policy.h"

struct parse_text {
	const char *source;
	const char *text;
	size_t n;
	struct policy_error *error;
};

struct parse_span {
	const char *at; /* into the text; empty spans point at what follows them */
	size_t n;
};

/** parse_is - is the piece exactly this word */
bool parse_is(struct parse_span s, const char *word);

/**
 * parse_until - cut a piece off the front
 * @rest: shortened by the piece; begins with the delimiter found, or is empty
 * @delimiters: NULL-terminated; any of them ends the piece
 */
struct parse_span parse_until(struct parse_span *rest, const char *delimiters);

/** parse_skip - the piece without its first n characters */
struct parse_span parse_skip(struct parse_span s, size_t n);

/**
 * parse_position - where a character is: line (0 when the text has one line only) and column
 */
void parse_position(const struct parse_text *t, const char *at, unsigned *ret_line,
		    unsigned *ret_column);

/**
 * parse_quote - text from outside, made safe for one line of a message
 * @max: most characters written, at most size - 1; what is longer is cut and ends in "..."
 *
 * Unprintable bytes, " and \ become \xNN. Returns buf.
 */
const char *parse_quote(const char *text, size_t n, size_t max, char *buf, size_t size);

/**
 * parse_source - the source's name, safe for a message; of a long path the end is kept
 */
const char *parse_source(const char *source, char *buf, size_t size);

/**
 * parse_fail - fill the error: SOURCE: column N: found "...", allowed: ...
 * @found: an empty one is described by what follows it
 *
 * Returns -EINVAL.
 */
int parse_fail(const struct parse_text *t, struct parse_span found, const char *allowed, ...)
	__attribute__((format(printf, 3, 4)));

/** parse_target - protocol, address, prefix and ports of a rule. Returns 0 or -EINVAL */
int parse_target(const struct parse_text *t, struct parse_span target, struct policy_rule *rule);

#endif

/* What is said about a bad policy: always one line of printable ASCII, whatever the text holds. */
#include "parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FOUND_MAX  40 /* characters shown of what was found */
#define SOURCE_MAX 80 /* and of the source: paths may be long, and the rest has to fit too */

void parse_position(const struct parse_text *t, const char *at, unsigned *ret_line,
		    unsigned *ret_column)
{
	/* A newline at the very end, as every file has it, does not make two lines. */
	bool lines = t->n > 1 && memchr(t->text, '\n', t->n - 1) != NULL;
	const char *start = t->text;
	unsigned line = 1;

	for (const char *p = t->text; lines && p < at; p++) {
		if (*p == '\n') {
			line++;
			start = p + 1;
		}
	}
	*ret_line = lines ? line : 0;
	*ret_column = (unsigned)(at - start) + 1;
}

const char *parse_quote(const char *text, size_t n, size_t max, char *buf, size_t size)
{
	static const char dots[] = "...";
	size_t used = 0;
	size_t fits = 0; /* the longest part after which the dots still have room */

	if (max > size - 1)
		max = size - 1;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		bool plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
		size_t need = plain ? 1 : 4;

		if (used + need > max) {
			snprintf(buf + fits, size - fits, "%s", dots);
			return buf;
		}
		if (plain)
			buf[used] = (char)c;
		else
			snprintf(buf + used, size - used, "\\x%02x", c);
		used += need;
		if (used + sizeof(dots) - 1 <= max)
			fits = used;
	}
	buf[used] = '\0';
	return buf;
}

const char *parse_source(const char *source, char *buf, size_t size)
{
	size_t n = strlen(source);
	char end[SOURCE_MAX - 2];

	if (n <= SOURCE_MAX)
		return parse_quote(source, n, SOURCE_MAX, buf, size);
	size_t keep = sizeof(end) - 1; /* escapes may still make it longer: then it is cut */
	parse_quote(source + n - keep, keep, keep, end, sizeof(end));
	snprintf(buf, size, "...%s", end);
	return buf;
}

int parse_fail(const struct parse_text *t, struct parse_span found, const char *allowed, ...)
{
	char source[SOURCE_MAX + 1];
	char quoted[FOUND_MAX + 1];
	char what[FOUND_MAX + 8];
	char where[40];
	char list[112];
	unsigned line;
	unsigned column;
	va_list ap;

	if (found.n == 0 && found.at < t->text + t->n && *found.at != '\n')
		found.n = 1;
	if (found.n > 0)
		snprintf(what, sizeof(what), "\"%s\"",
			 parse_quote(found.at, found.n, FOUND_MAX, quoted, sizeof(quoted)));
	else
		snprintf(what, sizeof(what), "%s",
			 found.at < t->text + t->n ? "the end of the line" : "the end");

	parse_position(t, found.at, &line, &column);
	if (line)
		snprintf(where, sizeof(where), "line %u column %u", line, column);
	else
		snprintf(where, sizeof(where), "column %u", column);

	va_start(ap, allowed);
	vsnprintf(list, sizeof(list), allowed, ap);
	va_end(ap);
	snprintf(t->error->text, sizeof(t->error->text), "%s: %s: found %s, allowed: %s",
		 parse_source(t->source, source, sizeof(source)), where, what, list);
	return -EINVAL;
}

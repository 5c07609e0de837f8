/* Strict reading of a command line. Pure functions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../policy/parse.h"
#include "../util/num.h"
#include "options.h"

#define SHOWN_MAX 40 /* characters of a word in a message, as the policy's messages have it */

static const char *shown(const char *word, char buf[SHOWN_MAX + 1])
{
	return parse_quote(word, strlen(word), SHOWN_MAX, buf, SHOWN_MAX + 1);
}

int options_wrong(char error[OPTIONS_ERROR_MAX], const char *name, const char *value, size_t column,
		  const char *allowed)
{
	char buf[SHOWN_MAX + 1];
	const char *rest = value + column - 1;

	if (*rest == '\0')
		snprintf(error, OPTIONS_ERROR_MAX, "%s: column %zu: found the end, allowed: %s",
			 name, column, allowed);
	else
		snprintf(error, OPTIONS_ERROR_MAX, "%s: column %zu: found \"%s\", allowed: %s",
			 name, column, shown(rest, buf), allowed);
	return -EINVAL;
}

static int unknown(struct options *o, const char *word)
{
	char buf[SHOWN_MAX + 1];

	snprintf(o->error, sizeof(o->error),
		 "%s: unknown option \"%s\"; `sockshard %s --help` lists them", o->argv[0],
		 shown(word, buf), o->argv[0]);
	return -EINVAL;
}

/* Takes the value: attached (not NULL) or the next word. */
static int take(struct options *o, const char *attached)
{
	char buf[SHOWN_MAX + 1];

	o->value = attached;
	if (o->spec->value == NULL) {
		if (attached == NULL)
			return o->spec->id;
		snprintf(o->error, sizeof(o->error), "%s: found \"%s\", allowed: no value", o->name,
			 shown(attached, buf));
		return -EINVAL;
	}
	if (o->value == NULL) {
		o->value = o->argv[o->next];
		if (o->value == NULL) {
			snprintf(o->error, sizeof(o->error),
				 "%s: the value is missing, allowed: %s", o->name, o->spec->value);
			return -EINVAL;
		}
		o->next++;
	}
	return o->spec->id;
}

static int take_long(struct options *o, const char *word)
{
	const char *name = word + 2;
	size_t n = strcspn(name, "=");

	for (o->spec = o->specs; o->spec->id != 0; o->spec++) {
		if (o->spec->name == NULL || strlen(o->spec->name) != n ||
		    strncmp(o->spec->name, name, n) != 0)
			continue;
		snprintf(o->name, sizeof(o->name), "--%s", o->spec->name);
		return take(o, name[n] == '=' ? name + n + 1 : NULL);
	}
	return unknown(o, word);
}

static int take_letter(struct options *o, const char *word)
{
	for (o->spec = o->specs; o->spec->id != 0; o->spec++) {
		if (o->spec->letter == '\0' || o->spec->letter != word[1])
			continue;
		snprintf(o->name, sizeof(o->name), "-%c", o->spec->letter);
		if (word[2] != '\0' && o->spec->value == NULL)
			break; /* letters are not bundled */
		return take(o, word[2] == '\0' ? NULL : word + 2);
	}
	return unknown(o, word);
}

int options_next(struct options *o)
{
	const char *word = o->argv[o->next];

	if (word == NULL)
		return OPTIONS_END;
	o->next++;
	if (word[0] != '-' || word[1] == '\0') {
		o->value = word;
		return OPTIONS_OPERAND;
	}
	if (strcmp(word, "--") == 0)
		return OPTIONS_REST;
	return word[1] == '-' ? take_long(o, word) : take_letter(o, word);
}

int options_number(struct options *o, long min, long max, long *ret)
{
	if (num_parse(o->value, strlen(o->value), min, max, ret) != 0)
		return options_wrong(o->error, o->name, o->value, 1, o->spec->value);
	return 0;
}

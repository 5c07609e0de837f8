/* Strict reading of a command line: every word is an option of the list, an operand, or an error
 * that names it. No abbreviations, no sorting, no globals. */
#ifndef SOCKSHARD_CLI_OPTIONS_H
#define SOCKSHARD_CLI_OPTIONS_H

#include <stddef.h>

#define OPTIONS_END	  0
#define OPTIONS_HELP	  0xffe	 /* of every subcommand that reads its words by cli_read() */
#define OPTIONS_VERSION	  0xfff
#define OPTIONS_OPERAND	  0x1000 /* in value */
#define OPTIONS_REST	  0x1001 /* "--" was met: argv[next] is the first word behind it */
#define OPTIONS_ERROR_MAX 320

struct options_spec {
	int id;		   /* from 1, below OPTIONS_HELP, or one of the two */
	char letter;	   /* 0: none */
	const char *name;  /* long form, without the dashes */
	const char *value; /* what its value may be, in words; NULL: takes none */
};

struct options {
	const struct options_spec *specs; /* ends with id 0 */
	char **argv;			  /* argv[0] is the subcommand; ends with NULL */
	int next;			  /* start with 1 */
	const struct options_spec *spec;  /* of the option met last */
	char name[40];			  /* as it was written: "-n" or "--copies" */
	const char *value;
	char error[OPTIONS_ERROR_MAX]; /* one line, without "sockshard: " in front */
};

/**
 * options_next - the next option, operand or end
 * Returns an id, OPTIONS_END, OPTIONS_OPERAND or OPTIONS_REST; -EINVAL and error.
 */
int options_next(struct options *o);

/**
 * options_wrong - the error of a bad value, in the form of every message about input:
 * NAME: column N: found "VALUE", allowed: ALLOWED
 * @column: from 1; what is shown of the value begins there
 *
 * Returns -EINVAL. An empty rest is called "the end"; unprintable bytes are shown as \xNN.
 */
int options_wrong(char error[OPTIONS_ERROR_MAX], const char *name, const char *value, size_t column,
		  const char *allowed);

/** options_number - the value of the option met last; 0, or -EINVAL and error */
int options_number(struct options *o, long min, long max, long *ret);

#endif

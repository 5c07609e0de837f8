/* The SOCKSHARD_* variables as the command reads them. Changes nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "../util/num.h"
#include "variables.h"

#define GROUP_CHARS	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define KEEPER_NAME_MAX 107 /* sun_path without the leading zero, unix(7) */

int variables_group(const char *name, const char *value, char error[OPTIONS_ERROR_MAX])
{
	size_t n = strspn(value, GROUP_CHARS);

	if (n >= WIRE_GROUP_MAX)
		n = WIRE_GROUP_MAX - 1;
	else if (n > 0 && value[n] == '\0')
		return 0;
	return options_wrong(error, name, value, n + 1, "1 to 63 of A-Z a-z 0-9 . _ -");
}

int variables_keeper(const char *name, const char *value, char error[OPTIONS_ERROR_MAX])
{
	size_t n = 0;

	while (n < KEEPER_NAME_MAX && value[n] > 0x20 && value[n] < 0x7f)
		n++;
	if (n > 0 && value[n] == '\0')
		return 0;
	return options_wrong(error, name, value, n + 1,
			     "auto, off or a name of 1 to 107 visible characters");
}

static int check_number(const char *name, long min, long max, const char *allowed, long *ret,
			char error[OPTIONS_ERROR_MAX])
{
	const char *value = secure_getenv(name);

	if (value == NULL || num_parse(value, strlen(value), min, max, ret) == 0)
		return 0;
	return options_wrong(error, name, value, 1, allowed);
}

static int check_path(const char *name, const char **ret, char error[OPTIONS_ERROR_MAX])
{
	const char *value = secure_getenv(name);

	if (value != NULL && value[0] != '/')
		return options_wrong(error, name, value, 1, "an absolute path");
	*ret = value;
	return 0;
}

static int check_unsupported(char error[OPTIONS_ERROR_MAX])
{
	const char *workers = secure_getenv("SOCKSHARD_WORKERS");
	long weight = 1;

	if (check_number("SOCKSHARD_WEIGHT", 0, 1000, "0-1000", &weight, error) != 0)
		return -EINVAL;
	if (workers != NULL && strcmp(workers, "own") != 0 && strcmp(workers, "shared") != 0)
		return options_wrong(error, "SOCKSHARD_WORKERS", workers, 1, "own or shared");
	if (weight == 1)
		return 0;
	snprintf(error, OPTIONS_ERROR_MAX,
		 "SOCKSHARD_WEIGHT: a weight of %ld is not supported by this version", weight);
	return -ENOTSUP;
}

static int check_keeper(struct variables *v, char error[OPTIONS_ERROR_MAX])
{
	const char *value = secure_getenv("SOCKSHARD_KEEPER");

	if (value == NULL || strcmp(value, "auto") == 0)
		return 0;
	v->keeper_off = strcmp(value, "off") == 0;
	if (v->keeper_off)
		return 0;
	v->keeper = value;
	return variables_keeper("SOCKSHARD_KEEPER", value, error);
}

int variables_read(struct variables *ret, char error[OPTIONS_ERROR_MAX])
{
	struct variables v = {.policy = secure_getenv("SOCKSHARD_POLICY"),
			      .group = secure_getenv("SOCKSHARD_GROUP"),
			      .log = secure_getenv("SOCKSHARD_LOG")};
	long number = 0; /* slot and generation: checked here, set anew for each copy */
	long strict = 0;
	int r;

	if (v.group != NULL && v.group[0] == '\0')
		v.group = NULL; /* the default is the empty name */
	if (v.group != NULL && variables_group("SOCKSHARD_GROUP", v.group, error) != 0)
		return -EINVAL;
	if (check_number("SOCKSHARD_SLOT", 0, 1023, "0-1023", &number, error) != 0 ||
	    check_number("SOCKSHARD_GENERATION", 0, 2147483647, "0-2147483647", &number, error) !=
		    0 ||
	    check_number("SOCKSHARD_STRICT", 0, 1, "0 or 1", &strict, error) != 0)
		return -EINVAL;
	v.strict = strict == 1;
	r = check_unsupported(error);
	if (r == 0)
		r = check_keeper(&v, error);
	if (r != 0)
		return r;
	if (log_setup(v.log) != 0)
		return options_wrong(error, "SOCKSHARD_LOG", v.log, 1,
				     "error, warn, info or debug, or one of them with :/path");
	if (check_path("SOCKSHARD_COMMAND", &v.command, error) != 0 ||
	    check_path("SOCKSHARD_LIBRARY", &v.library, error) != 0)
		return -EINVAL;
	*ret = v;
	return 0;
}

struct keeper_where variables_where(const struct variables *v, const char *command)
{
	struct keeper_where where = {
		.name = v->keeper, .command = command, .log = v->log, .uid = geteuid()};

	return where;
}

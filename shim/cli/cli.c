/* What the subcommands share. Owns nothing. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../util/version.h"
#include "cli.h"

void cli_say(const char *format, ...)
{
	static const char head[] = "sockshard: ";
	char line[2048];
	size_t n = sizeof(head) - 1;
	va_list ap;
	int r;

	memcpy(line, head, n);
	va_start(ap, format);
	r = vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
	va_end(ap);
	if (r < 0)
		return;
	n += (size_t)r < sizeof(line) - n - 1 ? (size_t)r : sizeof(line) - n - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nobody is left to be told */
}

int cli_version(void)
{
	printf("sockshard %s\n", SOCKSHARD_VERSION);
	return fflush(stdout) == 0 ? 0 : 1;
}

int cli_read(char **argv, const struct options_spec *specs,
	     int (*take)(struct options *o, int id, void *to), void *to, struct variables *ret)
{
	struct options o = {.specs = specs, .argv = argv, .next = 1};
	int id = 0, r = 0;

	while (r == 0 && id != OPTIONS_REST && (id = options_next(&o)) != OPTIONS_END) {
		if (id == OPTIONS_HELP)
			return cli_help(argv[0]);
		if (id == OPTIONS_VERSION)
			return cli_version();
		r = id < 0 ? id : take(&o, id, to);
	}
	if (r == 0)
		r = variables_read(ret, o.error);
	if (r == 0)
		return -1;
	cli_say("%s", o.error);
	return CLI_USAGE;
}

int cli_take_group(struct options *o, int id, const char *allowed, const char **ret_group)
{
	if (id == OPTIONS_REST)
		return options_wrong(o->error, o->argv[0], "--", 1, allowed);
	if (*ret_group != NULL)
		return options_wrong(o->error, o->argv[0], o->value, 1, "one GROUP only");
	*ret_group = o->value;
	return variables_group("GROUP", o->value, o->error);
}

int64_t cli_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int cli_self(char ret_path[PATH_MAX])
{
	static const char deleted[] = " (deleted)"; /* proc(5): the file was replaced meanwhile */
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	size_t tail = sizeof(deleted) - 1;

	if (n < 0)
		return -errno;
	path[n] = '\0';
	if ((size_t)n > tail && strcmp(path + (size_t)n - tail, deleted) == 0 &&
	    access(path, F_OK) == -1)
		path[(size_t)n - tail] = '\0';
	memcpy(ret_path, path, strlen(path) + 1);
	return 0;
}

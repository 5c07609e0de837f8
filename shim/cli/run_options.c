/* The command line of `sockshard run`. Pure functions. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../util/num.h"
#include "run_options.h"
#include "variables.h"

#define SIGNAL_MAX 64 /* Linux has 1..64 everywhere but on MIPS */

enum {
	COPIES = 1,
	POLICY,
	GROUP,
	WEIGHT,
	PIN,
	PREFIX,
	GRACE,
	DRAIN,
	STOP_SIGNAL,
	RESTART,
	HELP,
	VERSION,
};

static const struct options_spec specs[] = {
	{COPIES, 'n', "copies", "a number 1-1024 or auto"},
	{POLICY, 'p', "policy", "a policy or @FILE"},
	{GROUP, 'g', "group", "1 to 63 of A-Z a-z 0-9 . _ -"},
	{WEIGHT, 'w', "weight", "a weight 0-1000"},
	{PIN, 0, "pin", NULL},
	{PREFIX, 0, "prefix", NULL},
	{GRACE, 0, "grace", "seconds 0-86400"},
	{DRAIN, 0, "drain", "seconds 0-86400"},
	{STOP_SIGNAL, 0, "stop-signal", "a signal's name (TERM, INT, QUIT, ...) or number 1-64"},
	{RESTART, 0, "restart", "always, on-failure or no"},
	{HELP, 'h', "help", NULL},
	{VERSION, 0, "version", NULL},
	{0, 0, NULL, NULL},
};

static int wrong(struct options *o)
{
	return options_wrong(o->error, o->name, o->value, 1, o->spec->value);
}

static int signal_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} signals[] = {
		{"HUP", SIGHUP},   {"INT", SIGINT},	  {"QUIT", SIGQUIT}, {"KILL", SIGKILL},
		{"USR1", SIGUSR1}, {"USR2", SIGUSR2},	  {"TERM", SIGTERM}, {"ABRT", SIGABRT},
		{"ALRM", SIGALRM}, {"CONT", SIGCONT},	  {"PIPE", SIGPIPE}, {"WINCH", SIGWINCH},
		{"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},	  {"TTOU", SIGTTOU}, {"URG", SIGURG},
		{"IO", SIGIO},	   {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF},
	};
	long number;
	size_t i;

	if (num_parse(name, strlen(name), 1, SIGNAL_MAX, &number) == 0)
		return (int)number;
	if (strncmp(name, "SIG", 3) == 0)
		name += 3;
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (strcmp(signals[i].name, name) == 0)
			return signals[i].number;
	}
	return -EINVAL;
}

static int take_copies(struct options *o, struct run_options *run)
{
	run->copies = 0;
	if (strcmp(o->value, "auto") == 0)
		return 0;
	return options_number(o, 1, RUN_COPIES_MAX, &run->copies);
}

static int take_weight(struct options *o)
{
	long weight = 1;
	int r = options_number(o, 0, 1000, &weight);

	if (r != 0 || weight == 1)
		return r;
	snprintf(o->error, sizeof(o->error), "%s: a weight of %ld is not supported by this version",
		 o->name, weight);
	return -ENOTSUP;
}

static int take_restart(struct options *o, struct run_options *run)
{
	if (strcmp(o->value, "always") == 0)
		run->restart = RUN_RESTART_ALWAYS;
	else if (strcmp(o->value, "on-failure") == 0)
		run->restart = RUN_RESTART_ON_FAILURE;
	else if (strcmp(o->value, "no") == 0)
		run->restart = RUN_RESTART_NO;
	else
		return wrong(o);
	return 0;
}

static int take_seconds(struct options *o, long *ret_ms)
{
	long seconds = 0;
	int r = options_number(o, 0, 86400, &seconds);

	*ret_ms = seconds * 1000;
	return r;
}

static int take(struct options *o, int id, struct run_options *run)
{
	switch (id) {
	case COPIES:
		return take_copies(o, run);
	case POLICY:
		run->policy = o->value;
		return 0;
	case GROUP:
		run->group = o->value;
		return variables_group(o->name, o->value, o->error);
	case WEIGHT:
		return take_weight(o);
	case PIN:
		run->pin = true;
		return 0;
	case PREFIX:
		run->prefix = true;
		return 0;
	case GRACE:
		return take_seconds(o, &run->grace_ms);
	case STOP_SIGNAL:
		run->stop_signal = signal_number(o->value);
		return run->stop_signal > 0 ? 0 : wrong(o);
	case RESTART:
		return take_restart(o, run);
	case DRAIN:
		snprintf(o->error, sizeof(o->error), "run: --drain: not in this version");
		return -ENOTSUP;
	case HELP:
		run->show = RUN_SHOW_HELP;
		return 0;
	case VERSION:
		run->show = RUN_SHOW_VERSION;
		return 0;
	default:
		if (id == OPTIONS_OPERAND)
			options_wrong(o->error, "run", o->value, 1,
				      "an option, or -- before the command");
		return -EINVAL;
	}
}

int run_options_read(char **argv, struct run_options *ret, char error[OPTIONS_ERROR_MAX])
{
	struct run_options run = {.copies = 1, .grace_ms = 10000, .stop_signal = SIGTERM};
	struct options o = {.specs = specs, .argv = argv, .next = 1};
	int id, r = 0;

	while ((id = options_next(&o)) != OPTIONS_END && id != OPTIONS_REST) {
		r = take(&o, id, &run);
		if (r != 0)
			goto out;
		if (run.show != RUN_SHOW_NOTHING) {
			*ret = run;
			return 0;
		}
	}
	run.command = argv + o.next;
	if (run.command[0] != NULL) {
		*ret = run;
		return 0;
	}
	snprintf(o.error, sizeof(o.error),
		 "run: the command is missing, allowed: -- COMMAND [ARG ...]");
	r = -EINVAL;
out:
	memcpy(error, o.error, OPTIONS_ERROR_MAX);
	return r;
}

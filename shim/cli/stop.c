/* `sockshard stop`: TERM to the launcher of a group, and wait until it has ended. A pid from the
 * keeper may be another process's by now: the process is marked first (stop_target.h), and gets
 * TERM only when the keeper, asked again, still lists the launcher under that pid. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../keeper/process.h"
#include "cli.h"
#include "status.h"
#include "stop_target.h"

#define ENDING_MS   1000  /* from the end of its connection to its own */
#define PATIENCE_MS 10000 /* then it is said once what we wait for */

static const struct options_spec specs[] = {
	{OPTIONS_HELP, 'h', "help", NULL},
	{OPTIONS_VERSION, 0, "version", NULL},
	{0, 0, NULL, NULL},
};

static int take(struct options *o, int id, void *to)
{
	return cli_take_group(o, id, "[GROUP]", to);
}

/* Every group that has a launcher, once. */
static void list_names(const struct status *s, char *names, size_t size)
{
	size_t i, k, n = 0;

	names[0] = '\0';
	for (i = 0; i < s->n_launchers && n + WIRE_GROUP_MAX + 2 < size; i++) {
		const char *name = s->launchers[i].group;

		for (k = 0; k < i && strcmp(s->launchers[k].group, name) != 0; k++)
			;
		if (k == i)
			n += (size_t)snprintf(names + n, size - n, "%s%s", n ? ", " : "", name);
	}
}

/* Returns 0 when the request names launchers that are there; else the exit status. */
static int choose(const struct status *s, const char *group)
{
	char names[1024];
	size_t i;

	if (s->n_launchers == 0 && group == NULL) {
		cli_say("stop: no launcher runs here");
		return CLI_UNAVAILABLE;
	}
	list_names(s, names, sizeof(names));
	if (group == NULL && s->n_launchers == 1)
		return 0;
	if (group == NULL) {
		cli_say("stop: %zu launchers run here, GROUP is missing, allowed: %s",
			s->n_launchers, names);
		return CLI_USAGE;
	}
	for (i = 0; i < s->n_launchers; i++) {
		if (strcmp(s->launchers[i].group, group) == 0)
			return 0;
	}
	if (s->n_launchers == 0) {
		cli_say("stop: no launcher of group \"%s\" here, nor any other", group);
		return CLI_UNAVAILABLE;
	}
	cli_say("stop: no launcher of group \"%s\" here, allowed: %s", group, names);
	return CLI_USAGE;
}

static const struct wire_status_launcher *find(const struct status *s,
					       const struct wire_status_launcher *wanted)
{
	size_t i;

	for (i = 0; i < s->n_launchers; i++) {
		const struct wire_status_launcher *l = &s->launchers[i];

		if (l->pid == wanted->pid && l->first == wanted->first && l->n == wanted->n &&
		    strcmp(l->group, wanted->group) == 0)
			return l;
	}
	return NULL;
}

/* Returns 0, or the exit status when it cannot be stopped from here. */
static int check_place(const struct wire_status_launcher *l)
{
	uint64_t pid_space = process_pid_space();

	if (l->pid != 0 && l->pid_space != 0 && l->pid_space == pid_space)
		return 0;
	cli_say("stop: the launcher of group \"%s\" or its keeper is in another pid namespace, "
		"stop it there",
		l->group);
	return CLI_UNAVAILABLE;
}

/* It is not listed any more: it ends right now, or lost its keeper, or the pid is another's. */
static int unproven(const struct stop_target *t)
{
	if (stop_target_wait(t, ENDING_MS))
		return 0;
	cli_say("stop: the keeper does not list the launcher of group \"%s\" (pid %u) any more, "
		"nothing was sent to it",
		t->launcher.group, t->launcher.pid);
	return CLI_UNAVAILABLE;
}

/* A second TERM would kill its copies: one that stops already gets none. */
static int signal_target(const struct stop_target *t, const struct status *now)
{
	const struct wire_status_launcher *l = find(now, &t->launcher);
	int r;

	if (l == NULL)
		return unproven(t);
	if (l->stopping)
		return 0;
	r = stop_target_term(t);
	if (r == 0)
		return 0;
	cli_say("stop: the launcher of group \"%s\" (pid %u): %s", l->group, l->pid, strerror(-r));
	return CLI_UNAVAILABLE;
}

static void await_end(const struct stop_target *t, int64_t *said_at)
{
	for (;;) {
		int64_t left = *said_at - cli_now_ms();

		if (stop_target_wait(t, *said_at == 0 ? -1 : left > 0 ? (int)left : 0))
			return;
		cli_say("stop: waiting for the launcher of group \"%s\" (pid %u), which waits for "
			"its copies",
			t->launcher.group, t->launcher.pid);
		*said_at = 0;
	}
}

static int stop_all(struct stop_target *targets, size_t n, const struct variables *v)
{
	int64_t said_at = cli_now_ms() + PATIENCE_MS;
	struct status now = {0};
	int status = 0, r = status_ask(v, &now);
	size_t i;

	if (r != 0) {
		status_no_keeper("stop", v, r);
		status_free(&now);
		return CLI_UNAVAILABLE;
	}
	for (i = 0; i < n && status == 0; i++)
		status = signal_target(&targets[i], &now);
	status_free(&now);
	for (i = 0; i < n && status == 0; i++)
		await_end(&targets[i], &said_at);
	return status;
}

static int stop_chosen(const struct status *s, const char *group, const struct variables *v)
{
	struct stop_target *targets = calloc(s->n_launchers, sizeof(*targets));
	size_t i, n = 0;
	int status = 0;

	if (targets == NULL) {
		cli_say("stop: %s", strerror(ENOMEM));
		return CLI_UNAVAILABLE;
	}
	for (i = 0; i < s->n_launchers && status == 0; i++) {
		if (group != NULL && strcmp(s->launchers[i].group, group) != 0)
			continue;
		status = check_place(&s->launchers[i]);
		if (status == 0 && stop_target_open(&s->launchers[i], &targets[n]))
			n++;
	}
	if (status == 0)
		status = stop_all(targets, n, v);
	for (i = 0; i < n; i++)
		stop_target_close(&targets[i]);
	free(targets);
	return status;
}

static int stop(const struct variables *v, const char *group)
{
	struct status s = {0};
	int r = status_ask(v, &s);

	if (r != 0) {
		status_no_keeper("stop", v, r);
		r = CLI_UNAVAILABLE;
	} else {
		r = choose(&s, group);
		if (r == 0)
			r = stop_chosen(&s, group, v);
	}
	status_free(&s);
	return r;
}

int cli_stop(int argc, char **argv)
{
	const char *group = NULL;
	struct variables v;
	int r = cli_read(argv, specs, take, &group, &v);

	(void)argc;
	if (r != -1)
		return r;
	return stop(&v, group);
}

/* `sockshard keeper`: be the keeper, or start one in the background. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../keeper/client.h"
#include "../keeper/keeper.h"
#include "cli.h"

#define IDLE_SECONDS_MAX 86400

enum { FOREGROUND = 1, IDLE, NAME, READY, TAKEOVER };

static const struct options_spec specs[] = {
	{FOREGROUND, 0, "foreground", NULL},
	{IDLE, 0, "idle", "seconds 0-86400"},
	{NAME, 0, "name", "a name"},
	{READY, 0, "ready-fd", "an open descriptor from 3"},
	{TAKEOVER, 0, "takeover", NULL},
	{OPTIONS_HELP, 'h', "help", NULL},
	{OPTIONS_VERSION, 0, "version", NULL},
	{0, 0, NULL, NULL},
};

struct request {
	struct keeper_options keeper;
	bool foreground;
	const char *background_not; /* option that is of use in the foreground only */
};

static int ready_fd(struct options *o, int *ret_fd)
{
	long fd;
	int r = options_number(o, 3, 0x7fffffff, &fd);

	if (r != 0)
		return r;
	if (fcntl((int)fd, F_GETFD) == -1)
		return options_wrong(o->error, o->name, o->value, 1, o->spec->value);
	*ret_fd = (int)fd;
	return 0;
}

static int take(struct options *o, int id, void *to)
{
	struct request *req = to;
	long seconds = 0;
	int r;

	switch (id) {
	case FOREGROUND:
		req->foreground = true;
		return 0;
	case IDLE:
		req->background_not = "--idle";
		r = options_number(o, 0, IDLE_SECONDS_MAX, &seconds);
		if (r == 0)
			req->keeper.idle_ms = (int)seconds * 1000;
		return r;
	case NAME:
		req->keeper.name = o->value;
		return variables_keeper(o->name, o->value, o->error);
	case READY:
		req->background_not = "--ready-fd";
		return ready_fd(o, &req->keeper.ready_fd);
	case TAKEOVER:
		snprintf(o->error, sizeof(o->error), "keeper: --takeover: not in this version");
		return -ENOTSUP;
	default:
		return options_wrong(o->error, "keeper", id == OPTIONS_REST ? "--" : o->value, 1,
				     "options only");
	}
}

static int start(const struct variables *v, const char *name)
{
	struct keeper_client client;
	struct keeper_where where;
	char self[PATH_MAX];
	int r = cli_self(self);

	where = variables_where(v, self);
	where.name = name;
	if (r == 0)
		r = keeper_connect(sys_get(), &where, WIRE_CONTROL, -1, &client);
	if (r != 0) {
		cli_say("keeper: cannot be started: %s", strerror(-r));
		return CLI_UNAVAILABLE;
	}
	close(client.fd);
	return 0;
}

int cli_keeper(int argc, char **argv)
{
	struct request req = {.keeper = {.ready_fd = -1, .idle_ms = 10000}};
	struct variables v;
	int r = cli_read(argv, specs, take, &req, &v);

	(void)argc;
	if (r != -1)
		return r;
	if (req.keeper.name == NULL)
		req.keeper.name = v.keeper;
	if (req.foreground)
		return keeper_main(&req.keeper);
	if (req.background_not != NULL) {
		cli_say("keeper: %s goes with --foreground", req.background_not);
		return CLI_USAGE;
	}
	return start(&v, req.keeper.name);
}

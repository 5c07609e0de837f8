/* `sockshard status`: asks the keeper, never starts one. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../keeper/client.h"
#include "cli.h"
#include "status.h"

enum { JSON = 1, OPENMETRICS, WATCH };

static const struct options_spec specs[] = {
	{JSON, 0, "json", NULL},
	{OPENMETRICS, 0, "openmetrics", NULL},
	{WATCH, 0, "watch", NULL},
	{OPTIONS_HELP, 'h', "help", NULL},
	{OPTIONS_VERSION, 0, "version", NULL},
	{0, 0, NULL, NULL},
};

struct request {
	bool json;
	const char *group;
};

static int take(struct options *o, int id, void *to)
{
	struct request *req = to;

	switch (id) {
	case JSON:
		req->json = true;
		return 0;
	case OPENMETRICS:
	case WATCH:
		snprintf(o->error, sizeof(o->error), "status: %s: not in this version", o->name);
		return -ENOTSUP;
	default:
		return cli_take_group(o, id, "[--json] [GROUP]", &req->group);
	}
}

/* The packets of the answer up to its end. */
static int receive(struct keeper_client *client, struct status *s)
{
	const struct sys *sys = sys_get();
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS;
	r = keeper_tell(sys, client, &p);
	while (r == 0) {
		r = wire_receive(sys, client->fd, 0, &p); /* the socket has a deadline */
		if (r <= 0)
			return r == 0 ? -ECONNRESET : r == -EAGAIN ? -ETIMEDOUT : r;
		wire_close_fds(sys, &p);
		if (p.head.type == WIRE_STATUS)
			return p.head.result;
		r = status_add(s, &p);
	}
	return r;
}

int status_ask(const struct variables *v, struct status *s)
{
	struct keeper_where where = variables_where(v, NULL);
	struct keeper_client client;
	int r;

	if (v->keeper_off)
		return -ENOENT;
	r = keeper_connect(sys_get(), &where, WIRE_CONTROL, -1, &client);
	if (r != 0)
		return r;
	s->keeper = client.hello;
	s->keeper_pid = client.keeper_pid != 0 ? client.hello.pid : 0; /* the worker of now */
	if (s->keeper_pid == 0)
		s->keeper.vault = 0;
	r = receive(&client, s);
	close(client.fd);
	return r;
}

void status_no_keeper(const char *who, const struct variables *v, int error)
{
	if (error != -ENOENT)
		cli_say("%s: the keeper does not answer: %s", who, strerror(-error));
	else
		cli_say("no keeper runs here%s%s (one per user and network namespace)",
			v->keeper_off	    ? ": SOCKSHARD_KEEPER=off"
			: v->keeper != NULL ? " as "
					    : "",
			v->keeper_off || v->keeper == NULL ? "" : v->keeper);
}

/* Refuses a name that is not there, with those that are. */
static int unknown_group(const struct status *s, const char *group)
{
	char names[1024] = "";
	size_t i, k, n = 0;

	for (i = 0; i < s->n_groups && n < sizeof(names) - WIRE_GROUP_MAX - 2; i++) {
		const char *name = s->groups[i].head.group;

		for (k = 0; k < i && strcmp(s->groups[k].head.group, name) != 0; k++)
			;
		if (k == i && name[0] != '\0')
			n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "",
					      name);
	}
	cli_say("status: no group \"%s\" here, there %s: %s", group, n ? "are" : "is",
		n ? names : "none with a name");
	return CLI_USAGE;
}

static int show(const struct variables *v, const struct request *req)
{
	struct status s = {0};
	int r = status_ask(v, &s), i;

	if (r != 0) {
		status_free(&s);
		if (req->json) {
			status_json(stdout, NULL);
			fflush(stdout);
		}
		if (!req->json || r != -ENOENT)
			status_no_keeper("status", v, r);
		return CLI_UNAVAILABLE;
	}
	for (i = 0; req->group != NULL && i < (int)s.n_groups; i++) {
		if (strcmp(s.groups[i].head.group, req->group) == 0)
			break;
	}
	if (req->group != NULL && i == (int)s.n_groups) {
		r = unknown_group(&s, req->group);
	} else {
		if (req->group != NULL)
			status_keep(&s, req->group);
		(req->json ? status_json : status_table)(stdout, &s);
		r = fflush(stdout) == 0 ? 0 : 1;
	}
	status_free(&s);
	return r;
}

int cli_status(int argc, char **argv)
{
	struct request req = {0};
	struct variables v;
	int r = cli_read(argv, specs, take, &req, &v);

	(void)argc;
	if (r != -1)
		return r;
	return show(&v, &req);
}

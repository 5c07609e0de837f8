/* `sockshard check`: what this system, these rules and this program allow. Starts nothing but with
 * --run (check_run.c), and leaves nothing behind. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../os/os.h"
#include "../policy/policy.h"
#include "check_run.h"
#include "cli.h"
#include "command.h"
#include "library.h"

enum { POLICY = 1, RUN, SECONDS };

static const struct options_spec specs[] = {
	{POLICY, 'p', "policy", "a policy or @FILE"},
	{RUN, 0, "run", NULL},
	{SECONDS, 0, "seconds", "a number 1-3600"},
	{OPTIONS_HELP, 'h', "help", NULL},
	{OPTIONS_VERSION, 0, "version", NULL},
	{0, 0, NULL, NULL},
};

struct request {
	const char *policy;
	char **command; /* and its words */
	bool run;
	long seconds; /* 0: not given */
};

static int take(struct options *o, int id, void *to)
{
	struct request *req = to;

	switch (id) {
	case POLICY:
		req->policy = o->value;
		return 0;
	case OPTIONS_REST:
		req->command = &o->argv[o->next];
		if (req->command[0] != NULL)
			return 0;
		snprintf(o->error, sizeof(o->error), "check: the command is missing behind --");
		return -EINVAL;
	case RUN:
		req->run = true;
		return 0;
	case SECONDS:
		return options_number(o, 1, CHECK_RUN_SECONDS_MAX, &req->seconds);
	default:
		return options_wrong(o->error, "check", o->value, 1,
				     "an option, or -- before the command");
	}
}

static const char no_keeper[] = "the system cannot tell sockets apart (SO_COOKIE, Linux 4.12)";

static void line(bool works, const char *what, const char *why)
{
	printf("  %-3s  %s%s%s\n", works ? "yes" : "no", what, why[0] ? ": " : "", why);
}

static void show_migration(void)
{
	char value = '\0';
	int fd = open("/proc/sys/net/ipv4/tcp_migrate_req", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, &value, 1) != 1)
			value = '\0';
		close(fd);
	}
	if (value == '1')
		printf("  note net.ipv4.tcp_migrate_req is 1: the kernel itself moves waiting and "
		       "half-open\n"
		       "       connections of a listener that closes, while another one lives; "
		       "without it\n"
		       "       sockshard gives the waiting ones to the others all the same\n");
	else
		printf("  note net.ipv4.tcp_migrate_req is %s: nothing is needed; sockshard itself "
		       "gives the\n"
		       "       waiting connections of a dead listener to the others\n",
		       value == '0' ? "0" : "not there (before 5.14)");
}

static void show_system(const struct os *os, const struct os_probe *probe)
{
	static const struct {
		unsigned bit;
		const char *what;
	} capabilities[] = {
		{OS_BALANCE_TCP, "several TCP listeners on one port share its connections"},
		{OS_BALANCE_UDP, "several UDP sockets on one port share its datagrams"},
		{OS_BALANCE_IPV6, "the same over IPv6"},
		{OS_STEER,
		 "a program chooses the listener, so that a death moves no other's flows"},
		{OS_LISTENERS,
		 "the system lists the listeners of a port, so that strangers are seen"},
		{OS_KEEPER, "the keeper of this version runs here"},
	};
	struct utsname u;
	size_t i;

	if (uname(&u) == 0)
		printf("system: %s %s\n", u.sysname, u.release);
	else
		printf("system: %s\n", os->name);
	for (i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		bool works = (probe->caps & capabilities[i].bit) != 0;
		bool built = (os->caps & capabilities[i].bit) != 0;

		line(works, capabilities[i].what,
		     works    ? ""
		     : !built ? "not on this system"
		     : capabilities[i].bit == OS_KEEPER ? no_keeper
							: probe->why);
	}
	printf("  note of 60 connections to three listeners the system alone gave %u, %u and %u\n",
	       probe->shares[0], probe->shares[1], probe->shares[2]);
	if (strcmp(os->name, "Linux") == 0)
		show_migration();
}

static const char *shared_impossible(const struct os *os, const struct os_probe *probe)
{
	if ((os->caps & OS_KEEPER) == 0)
		return "it needs the keeper, which runs on Linux only";
	return (probe->caps & OS_KEEPER) != 0 ? NULL : no_keeper;
}

/* Is what a rule asks for possible: NULL, or why not. */
static const char *impossible(const struct policy_rule *rule, const struct os *os,
			      const struct os_probe *probe)
{
	const char *why = probe->why[0] ? probe->why : "the probe did not see it work";

	if (rule->mode == POLICY_OFF || rule->mode == POLICY_OFFSET)
		return NULL;
	if (rule->mode == POLICY_SHARED)
		return shared_impossible(os, probe);
	if (rule->mode == POLICY_HANDOVER && (os->caps & OS_STEER) == 0)
		return "not on this system: it has no way to steer";
	if (rule->mode == POLICY_HANDOVER && (probe->caps & OS_STEER) == 0)
		return why;
	if (rule->mode == POLICY_BALANCE && os->no_balance != NULL)
		return os->no_balance;
	if ((rule->protos & POLICY_TCP) != 0 && (probe->caps & OS_BALANCE_TCP) == 0)
		return why;
	if ((rule->protos & POLICY_UDP) != 0 && (probe->caps & OS_BALANCE_UDP) == 0)
		return why;
	if (rule->family == AF_INET6 && (probe->caps & OS_BALANCE_IPV6) == 0)
		return why;
	return NULL;
}

/* Of a rule that asks for a queue for each copy, which is impossible. */
static void show_way_out(const struct policy_rule *rule, const struct os *os,
			 const struct os_probe *probe)
{
	char text[100];

	if (rule->mode == POLICY_BALANCE && shared_impossible(os, probe) == NULL)
		printf("       one queue for all copies works here, and needs nothing of that: "
		       "%s=shared\n",
		       policy_written(rule, text, sizeof(text)));
}

/* What `run` would refuse, and what only the servers' own bind can tell. */
static void show_offset(const struct policy *policy, size_t i)
{
	const struct policy_rule *rule = &policy->rules[i];
	char why[256];
	unsigned room;

	if (rule->any_port) {
		printf("       which ports the slots get is seen when they bind\n");
		return;
	}
	room = policy_offset_room(policy, i, why, sizeof(why));
	printf("       slot 0: port %u, slot 1: port %u, and so on\n", (unsigned)rule->port_first,
	       rule->port_first + 1u);
	if (room < POLICY_SLOTS_MAX)
		printf("       room for %u %s: %s\n", room, room == 1 ? "copy" : "copies", why);
	if (rule->port_last > rule->port_first)
		printf("       a server that has two of these ports needs them as far apart as there "
		       "are copies\n");
}

static bool show_rules(const struct policy *policy, const char *source, const struct os *os,
		       const struct os_probe *probe)
{
	bool works = true;
	char text[400];
	size_t i;

	printf("policy (%s):\n", source);
	for (i = 0; i < policy->n; i++) {
		const char *why = impossible(&policy->rules[i], os, probe);

		line(why == NULL, policy_describe(&policy->rules[i], text, sizeof(text)),
		     why != NULL ? why : "");
		if (why != NULL)
			show_way_out(&policy->rules[i], os, probe);
		works = works && why == NULL;
		if (policy->rules[i].mode == POLICY_OFFSET)
			show_offset(policy, i);
	}
	printf("  what no rule covers is left alone\n");
	return works;
}

/* The command, and what it takes to start it. */
struct program {
	struct library library;
	struct command_report report;
	char self[PATH_MAX];
};

static int show_command(const char *command, const struct variables *v, struct program *ret)
{
	char why[LIBRARY_WHY_MAX];
	int r = cli_self(ret->self);

	if (r == 0)
		r = library_find(ret->self, v->library, &ret->library, why);
	else
		snprintf(why, sizeof(why), "/proc/self/exe: %s", strerror(-r));
	command_inspect(command, getenv("PATH"), r == 0 ? &ret->library.elf : NULL, &ret->report);
	printf("command:\n");
	line(ret->report.status == 0, ret->report.text, "");
	if (r == 0)
		return ret->report.status;
	line(false, LIBRARY_NAME, why);
	return ret->report.status != 0 ? ret->report.status : CLI_UNAVAILABLE;
}

static int check_command(const struct request *req, const struct variables *v,
			 const struct policy *policy, const char *policy_text)
{
	static struct program program;
	const char *workers = secure_getenv("SOCKSHARD_WORKERS");
	struct check_run how = {
		.policy = policy,
		.policy_text = policy_text,
		.argv = req->command,
		.path = program.report.path,
		.self = program.self,
		.library = &program.library,
		.workers_shared = workers != NULL && strcmp(workers, "shared") == 0,
		.seconds = req->seconds != 0 ? req->seconds : CHECK_RUN_SECONDS,
	};
	int r = show_command(req->command[0], v, &program);

	return r != 0 || !req->run ? r : check_run(&how);
}

static int check(const struct request *req, const struct variables *v)
{
	const char *source = req->policy != NULL ? "-p" : "SOCKSHARD_POLICY";
	const char *text = req->policy != NULL ? req->policy : v->policy;
	const struct os *os = os_get();
	struct os_probe probe = {0};
	struct policy_error error;
	struct policy policy;
	bool works;
	int r;

	r = policy_load(source, text != NULL ? text : POLICY_DEFAULT, &policy, &error);
	if (r != 0) {
		cli_say("%s", error.text);
		return CLI_USAGE;
	}
	r = os_probe(sys_get(), os, &probe);
	if (r != 0) {
		cli_say("check: the probe on loopback failed: %s", strerror(-r));
		return CLI_UNAVAILABLE;
	}
	show_system(os, &probe);
	works = show_rules(&policy, text != NULL ? source : "the default", os, &probe);
	r = req->command != NULL
		    ? check_command(req, v, &policy, text != NULL ? text : POLICY_DEFAULT)
		    : 0;
	if (fflush(stdout) != 0)
		return 1;
	return r != 0 ? r : works ? 0 : CLI_UNAVAILABLE;
}

int cli_check(int argc, char **argv)
{
	struct request req = {0};
	struct variables v;
	int r = cli_read(argv, specs, take, &req, &v);

	(void)argc;
	if (r != -1)
		return r;
	if ((req.run || req.seconds != 0) && req.command == NULL) {
		cli_say("check: %s goes with -- and a command", req.run ? "--run" : "--seconds");
		return CLI_USAGE;
	}
	if (req.seconds != 0 && !req.run) {
		cli_say("check: --seconds goes with --run");
		return CLI_USAGE;
	}
	return check(&req, &v);
}

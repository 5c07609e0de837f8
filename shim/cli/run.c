/* `sockshard run`: checks everything before anything is started, then hands over to
 * run_supervise(). */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../os/os.h"
#include "../policy/policy.h"
#include "../util/log.h"
#include "cli.h"
#include "command.h"
#include "cpus.h"
#include "run.h"

/* A file's name as it still is when a copy has changed its folder. */
static int policy_absolute(struct run *r)
{
	char folder[PATH_MAX];

	if (r->policy[0] != '@' || r->policy[1] == '/')
		return 0;
	if (getcwd(folder, sizeof(folder)) == NULL)
		return -errno;
	if (snprintf(r->policy_file, sizeof(r->policy_file), "@%s/%s", folder, r->policy + 1) >=
	    (int)sizeof(r->policy_file))
		return -ENAMETOOLONG;
	r->policy = r->policy_file;
	return 0;
}

static bool shares(const struct policy *policy)
{
	for (size_t i = 0; i < policy->n; i++) {
		if (policy->rules[i].mode != POLICY_OFF && policy->rules[i].mode != POLICY_OFFSET)
			return true;
	}
	return false;
}

static bool is_refused(const struct policy_rule *rule, uint8_t proto, char why[OS_WHY_MAX])
{
	struct addr a = {.proto = proto, .family = AF_INET, .port = rule->port_first};

	if (rule->family == AF_INET6) {
		a.family = AF_INET6;
		a.v6only = 1;
	}
	return os_try(sys_get(), os_get(), &a, why) < 0;
}

/* What each copy would say when it binds, said once and before: the first rule that this system
 * refuses. One copy has nobody to share with. */
static int check_system(const struct run *r, const struct policy *policy)
{
	char why[OS_WHY_MAX], place[40], text[100];

	for (size_t i = 0; i < policy->n && (r->n > 1 || r->variables.strict); i++) {
		const struct policy_rule *rule = &policy->rules[i];
		bool balances = rule->mode == POLICY_BALANCE;

		if (!balances && rule->mode != POLICY_HANDOVER)
			continue;
		if (!((rule->protos & POLICY_TCP) && is_refused(rule, IPPROTO_TCP, why)) &&
		    !((rule->protos & POLICY_UDP) && is_refused(rule, IPPROTO_UDP, why)))
			continue;
		policy_place(rule, place, sizeof(place));
		policy_written(rule, text, sizeof(text));
		cli_say("run: policy, %s: %s=%s: %s", place, text, policy_mode_name(rule->mode),
			why);
		if (balances && (os_get()->caps & OS_KEEPER))
			cli_say("run: one queue for all copies does without it: %s=shared", text);
		return r->variables.strict ? CLI_UNAVAILABLE : 0;
	}
	return 0;
}

static int check_policy(struct run *r, bool again)
{
	const char *source = r->options.policy != NULL ? "-p" : "SOCKSHARD_POLICY";
	struct policy_error error;
	struct policy policy;
	int result;

	r->policy = r->options.policy != NULL ? r->options.policy : r->variables.policy;
	if (r->policy == NULL)
		r->policy = POLICY_DEFAULT;
	result = policy_load(source, r->policy, &policy, &error);
	if (result == 0)
		result = policy_offset_check(source, &policy, r->first, r->n, &error);
	if (result != 0) {
		cli_say("%s", error.text);
		return CLI_USAGE;
	}
	r->shares = shares(&policy);
	result = policy_absolute(r);
	if (result != 0) {
		cli_say("%s: %s: %s", source, r->policy, strerror(-result));
		return CLI_USAGE;
	}
	return again ? 0 : check_system(r, &policy);
}

/* The command and the library, and whether one goes with the other. */
static int check_command(struct run *r)
{
	struct command_report report;
	char why[LIBRARY_WHY_MAX];
	int found = cli_self(r->self);

	if (found != 0) {
		cli_say("run: /proc/self/exe: %s", strerror(-found));
		return CLI_UNAVAILABLE;
	}
	found = library_find(r->self, r->variables.library, &r->library, why);
	command_inspect(r->options.command[0], getenv("PATH"), found == 0 ? &r->library.elf : NULL,
			&report);
	if (report.status != 0) {
		cli_say("run: %s", report.text);
		return report.status;
	}
	if (found != 0) {
		cli_say("run: %s", why);
		return CLI_UNAVAILABLE;
	}
	memcpy(r->command, report.path, sizeof(r->command));
	return 0;
}

/* A name that no other launcher has, so that a second start by mistake shares nothing. */
static void choose_group(struct run *r)
{
	const char *name = r->options.group != NULL ? r->options.group : r->variables.group;
	struct timespec ts;

	if (name != NULL) {
		snprintf(r->group, sizeof(r->group), "%s", name);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	snprintf(r->group, sizeof(r->group), "run-%x-%llx", (unsigned)getpid(),
		 (unsigned long long)ts.tv_sec * 1000000000ull + (unsigned long long)ts.tv_nsec);
}

/* Without a keeper the copies share as the system alone does it, unless strictness was asked for.
 */
static int find_keeper(struct run *r)
{
	const char *why = "SOCKSHARD_KEEPER=off";
	int result = 0;

	if (!r->variables.keeper_off) {
		r->where = variables_where(&r->variables, r->self);
		result = run_keeper_open(r);
		if (result == 0)
			return 0;
		why = strerror(-result);
		if (r->variables.strict) {
			cli_say("run: no keeper can be reached or started (%s), and "
				"SOCKSHARD_STRICT=1",
				why);
			return CLI_UNAVAILABLE;
		}
	}
	cli_say("no keeper (%s): the copies share without stable hashing, and nobody can tell when "
		"they listen",
		why);
	return 0;
}

static int open_outputs(struct run *r)
{
	unsigned k;
	int s, result;

	for (k = 0; k < r->n && r->options.prefix; k++) {
		for (s = 0; s < 2; s++) {
			result = output_open(&r->copies[k].output[s], r->first + k,
					     s == 0 ? STDOUT_FILENO : STDERR_FILENO);
			if (result != 0) {
				cli_say("run: --prefix: %s", strerror(-result));
				return CLI_UNAVAILABLE;
			}
		}
	}
	return 0;
}

static int supervise(struct run *r)
{
	int status;

	r->copies = calloc(r->n, sizeof(*r->copies));
	if (r->copies == NULL) {
		cli_say("run: %s", strerror(ENOMEM));
		return CLI_UNAVAILABLE;
	}
	run_signals_block(r);
	status = find_keeper(r);
	if (status == 0 && r->first > 0) /* another launcher has the slots before */
		status = check_policy(r, true);
	if (status == 0)
		status = open_outputs(r);
	if (status == 0)
		status = run_supervise(r);
	free(r->copies);
	return status;
}

int cli_run(int argc, char **argv)
{
	static struct run r;
	char error[OPTIONS_ERROR_MAX];
	int status;

	(void)argc;
	if (run_options_read(argv, &r.options, error) != 0) {
		cli_say("%s", error);
		return CLI_USAGE;
	}
	if (r.options.show != RUN_SHOW_NOTHING)
		return r.options.show == RUN_SHOW_HELP ? cli_help("run") : cli_version();
	if (variables_read(&r.variables, error) != 0) {
		cli_say("%s", error);
		return CLI_USAGE;
	}
	r.sys = sys_get();
	r.keeper.fd = -1;
	r.keeper_at = RUN_NEVER;
	r.n = (unsigned)(r.options.copies != 0 ? r.options.copies : cpus_auto());
	if (r.n > RUN_COPIES_MAX)
		r.n = RUN_COPIES_MAX;
	status = check_policy(&r, false);
	if (status == 0)
		status = check_command(&r);
	if (status != 0)
		return status;
	choose_group(&r);
	return supervise(&r);
}

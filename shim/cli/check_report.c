/* See check_report.h. */
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "check_report.h"
#include "run_rules.h"

#define SHOWN_PIDS 8
#define LIBRARY	   "sockshard: " /* how its lines begin */

static void line(FILE *to, const char *word, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void line(FILE *to, const char *word, const char *format, ...)
{
	va_list ap;

	fprintf(to, "  %-4s ", word);
	va_start(ap, format);
	vfprintf(to, format, ap);
	va_end(ap);
	fputc('\n', to);
}

static const char *name_of(const struct check_dry *d, pid_t pid)
{
	const struct check_dry_process *p = check_dry_named(d, pid);

	return p != NULL && p->name[0] != '\0' ? p->name : "?";
}

/* "2 processes" */
static const char *count(size_t n, const char *one, const char *many, char buf[64])
{
	snprintf(buf, 64, "%zu %s", n, n == 1 ? one : many);
	return buf;
}

/* "by epoll": how they learn of connections. */
static const char *how_text(unsigned how)
{
	if (how & CHECK_DRY_EPOLL)
		return "epoll";
	if (how & CHECK_DRY_POLL)
		return "poll";
	if (how & CHECK_DRY_SELECT)
		return "select";
	return "accept alone";
}

/* "nginx: pids 13, 14": who accepts. */
static const char *who(const struct check_dry *d, const struct check_dry_summary *s, char *buf,
		       size_t size)
{
	size_t i, n = 0;

	buf[0] = '\0';
	for (i = 0; i < s->n_pids && i < SHOWN_PIDS && n < size; i++) {
		if (i == 0)
			n += (size_t)snprintf(buf, size, "%s: pid%s %d", name_of(d, s->pids[0]),
					      s->n_pids > 1 ? "s" : "", (int)s->pids[0]);
		else
			n += (size_t)snprintf(buf + n, size - n, ", %d", (int)s->pids[i]);
	}
	if (s->n_pids > SHOWN_PIDS && n < size)
		snprintf(buf + n, size - n, ", ...");
	return buf;
}

static const struct status_group *group_of(const struct status *s, const struct addr *addr)
{
	size_t i;

	for (i = 0; i < s->n_groups; i++) {
		if (check_dry_same(&s->groups[i].head.addr, addr))
			return &s->groups[i];
	}
	return NULL;
}

/* Connections came and went, but the library has counted none. */
static bool is_unseen(const struct check_dry_socket *s, const struct status_group *g)
{
	uint64_t accepted = 0;
	size_t i;

	if (g == NULL || s->addr.proto != IPPROTO_TCP || !s->visited)
		return false;
	for (i = 0; i < g->n_slots; i++)
		accepted += g->slots[i].accepted + g->slots[i].queue;
	return accepted == 0;
}

static void show_slots(FILE *to, const struct status_group *g)
{
	size_t i;

	if (g == NULL || g->n_slots < 2)
		return;
	fputs("       slots:", to);
	for (i = 0; i < g->n_slots && i < SHOWN_PIDS; i++) {
		const struct wire_status_slot *s = &g->slots[i];

		fprintf(to, "%s %" PRIu32 " pid %" PRIu32, i > 0 ? "," : "", s->slot, s->pid);
		if (s->parent != 0)
			fprintf(to, " of %" PRIu32, s->parent);
	}
	fputs(g->n_slots > SHOWN_PIDS ? ", ...\n" : "\n", to);
}

/* Several processes at one queue: what keeps it so. */
static const char *why_shared(const struct check_report *r, const struct policy_rule *rule)
{
	if (rule == NULL || rule->mode == POLICY_OFF)
		return "they share one queue, as without sockshard";
	if (rule->mode == POLICY_SHARED)
		return "they share one queue with all copies, as the rule says";
	if (r->workers_shared)
		return "they share the queue of this copy (SOCKSHARD_WORKERS=shared)";
	return "they share the queue of this copy";
}

/* What follows from who accepts, of an address that is shared. */
static void show_meaning(FILE *to, const struct check_report *r,
			 const struct check_dry_summary *sum, const struct policy_rule *rule)
{
	switch (sum->verdict) {
	case CHECK_DRY_ONE:
	case CHECK_DRY_PER_CLIENT:
		line(to, "", "`sockshard run -n N` runs N copies of it");
		return;
	case CHECK_DRY_OWN:
		line(to, "", "each gets a queue of its own (SOCKSHARD_WORKERS=own)");
		return;
	case CHECK_DRY_SEVERAL:
		line(to, "", "it has bound these sockets itself: each gets a slot");
		return;
	case CHECK_DRY_MIXED:
		line(to, "", "some get a queue of their own, others share one");
		return;
	case CHECK_DRY_SHARED:
	case CHECK_DRY_WATCHED:
		line(to, "", "%s", why_shared(r, rule));
		return;
	case CHECK_DRY_SILENT:
	case CHECK_DRY_NOBODY:
		return;
	}
}

/* Who accepts there. */
static void show_accepting(FILE *to, const struct check_report *r, const struct check_dry_socket *s,
			   const struct policy_rule *rule)
{
	struct check_dry_summary sum;
	char pids[160], n[64], from[80] = "", m[64];

	check_dry_summary(r->dry, &s->addr, &sum);
	who(r->dry, &sum, pids, sizeof(pids));
	count(sum.n_pids, "process accepts", "processes accept", n);
	if (sum.n_sockets > 1)
		snprintf(from, sizeof(from), " from %s",
			 count(sum.n_sockets, "socket", "sockets", m));
	if (sum.verdict == CHECK_DRY_SILENT)
		line(to, "", "it did not listen");
	else if (sum.verdict == CHECK_DRY_NOBODY)
		line(to, "", "nobody was seen to accept from it or to wait for clients%s",
		     sum.uring ? "; it uses io_uring, where that cannot be seen" : "");
	else if (sum.verdict == CHECK_DRY_WATCHED)
		line(to, "", "%s pid %d waits for clients, and processes it makes accept (%s)",
		     name_of(r->dry, sum.watcher), (int)sum.watcher, pids);
	else
		line(to, "", "%s%s, by %s (%s)%s", n, from, how_text(sum.how), pids,
		     sum.verdict == CHECK_DRY_PER_CLIENT ? ", and makes one for each client" : "");
	if (rule != NULL)
		show_meaning(to, r, &sum, rule);
	else if (sum.verdict == CHECK_DRY_SHARED)
		line(to, "", "%s", why_shared(r, rule));
}

/* Why an address is left alone; NULL: it is to be shared, or is. */
static const char *left_alone(const struct check_dry_socket *s, const struct policy_rule *rule,
			      bool shared)
{
	if (s->any_port)
		return "port 0 was asked for: left alone";
	if (addr_is_multicast(&s->addr))
		return "multicast: left alone";
	if (rule == NULL)
		return "no rule covers it: left alone";
	if (rule->mode == POLICY_OFF)
		return "its rule says off: left alone";
	if (rule->any_port && s->late && !shared)
		return "bound after the first accept, which a rule with * as port does not cover: "
		       "left alone";
	return NULL;
}

/* Has a socket of the address been seen to listen? A master may try the address, close it, and leave it to
 * its workers, each with a socket of its own (hitch). */
static bool is_listened_at(const struct check_dry *d, const struct addr *addr)
{
	for (size_t i = 0; i < d->n_sockets; i++) {
		if (d->sockets[i].listens && check_dry_same(&d->sockets[i].addr, addr))
			return true;
	}
	return false;
}

static const char *why_not(const struct check_report *r, const char *address)
{
	if (strstr(r->log, address) != NULL)
		return "the library's reason is below";
	if (strstr(r->log, LIBRARY) != NULL)
		return "what the library said is below";
	return "the library says nothing: it was not loaded there, where the environment was "
	       "cleared, or a program started with two users (setuid, seteuid)";
}

/* One address; false: it was to be shared and is not. */
static bool show_address(FILE *to, const struct check_report *r, const struct check_dry_socket *s)
{
	const struct policy_rule *rule = s->any_port ? NULL : policy_match(r->policy, &s->addr);
	const char *proto = s->addr.proto == IPPROTO_UDP ? "udp" : "tcp";
	const struct status_group *g = group_of(r->status, &s->addr);
	const char *alone = left_alone(s, rule, g != NULL);
	char address[ADDR_TEXT_MAX], by[80] = "";

	addr_format(&s->addr, address, sizeof(address));
	if (check_dry_named(r->dry, s->binder) != NULL)
		snprintf(by, sizeof(by), ", bound by %s pid %d", name_of(r->dry, s->binder),
			 (int)s->binder);
	else if (s->binder != 0)
		snprintf(by, sizeof(by), ", bound by pid %d", (int)s->binder);
	if (rule == NULL || alone != NULL) {
		line(to, "note", "%s %s%s: %s", proto, address, by, alone != NULL ? alone : "");
		if (is_listened_at(r->dry, &s->addr))
			show_accepting(to, r, s, NULL);
		return true;
	}
	if (!is_listened_at(r->dry, &s->addr) && s->addr.proto == IPPROTO_TCP) {
		line(to, "note", "%s %s%s: did not listen", proto, address, by);
		return true;
	}
	if (rule->mode == POLICY_OFFSET) {
		line(to, "yes", "%s %s%s: not shared by rule %d, offset: slot k gets port %u + k",
		     proto, address, by, (int)(rule - r->policy->rules) + 1, s->addr.port);
		if (s->addr.proto == IPPROTO_TCP)
			show_accepting(to, r, s, rule);
		return true;
	}
	if (g == NULL) {
		line(to, "no", "%s %s%s: not shared; %s", proto, address, by,
		     why_not(r, address));
		return false;
	}
	line(to, "yes", "%s %s%s: shared by rule %d, %s", proto, address, by,
	     (int)(rule - r->policy->rules) + 1, policy_mode_name((enum policy_mode)rule->mode));
	if (s->addr.proto == IPPROTO_TCP)
		show_accepting(to, r, s, rule);
	if (is_unseen(s, g))
		line(to, "",
		     "the library has not seen an accept (io_uring, raw system calls, or a "
		     "socket handed over by a unix connection): served, not counted, given nothing "
		     "that waited elsewhere");
	show_slots(to, g);
	return true;
}

static bool shown_before(const struct check_dry *d, size_t i)
{
	size_t k;

	for (k = 0; k < i; k++) {
		if (check_dry_same(&d->sockets[k].addr, &d->sockets[i].addr))
			return true;
	}
	return false;
}

/* How the command's own process ended, if it did; false: in a way that it should not. */
static bool show_ending(FILE *to, const struct check_report *r, bool served)
{
	char text[80];

	if (!r->ended)
		return true;
	run_rules_text(r->wait_status, text, sizeof(text));
	if (r->daemon) {
		line(to, "note",
		     "the process that was started: %s after %" PRId64
		     " ms; others went on: a daemon, which `sockshard run` cannot look after; "
		     "keep it in the foreground",
		     text, r->ended_ms);
		return true;
	}
	line(to, served && r->wait_status == 0 ? "note" : "no",
	     "the command: %s after %" PRId64 " ms%s", text, r->ended_ms,
	     served ? "" : ", before it listened");
	return served && r->wait_status == 0;
}

/* "fd 3 is slot 0 of ...", "fd 3: ... slot 1": all is well. */
static bool names_a_slot(const char *text, size_t n)
{
	return n > 3 && memcmp(text, "fd ", 3) == 0 && memmem(text, n, "slot ", 5) != NULL;
}

/* The library's lines, each once, without those that only say that all is well. */
static void show_log(FILE *to, const char *log)
{
	static const char head[] = LIBRARY;
	const char *at = log, *end;
	size_t shown = 0;

	for (; (end = strchr(at, '\n')) != NULL && shown < 20; at = end + 1) {
		size_t n = (size_t)(end - at) + 1;
		const char *before = memmem(log, (size_t)(at - log), at, n);

		if (before != NULL || strncmp(at, head, sizeof(head) - 1) != 0 ||
		    names_a_slot(at + sizeof(head) - 1, n - sizeof(head)))
			continue;
		line(to, "note", "the library: %.*s", (int)(n - sizeof(head)),
		     at + sizeof(head) - 1);
		shown++;
	}
}

static void show_forks(FILE *to, const struct check_dry *d)
{
	char n[64], m[64];
	size_t i, forks = 0;

	for (i = 0; i < d->n_processes; i++)
		forks += d->processes[i].forks;
	if (forks == 0 && d->spawned == 0)
		line(to, "note", "it does not fork");
	if (forks > 0)
		line(to, "note", "it made %s by fork", count(forks, "process", "processes", n));
	if (d->spawned > 0)
		line(to, "note", "it started %s by vfork",
		     count(d->spawned, "program", "programs", m));
}

bool check_report(FILE *to, const struct check_report *r)
{
	const struct check_dry *d = r->dry;
	bool works = true, served = false;
	size_t i, any = 0;
	char n[64];

	for (i = 0; i < d->n_sockets; i++)
		served = served || d->sockets[i].listens || d->sockets[i].addr.proto == IPPROTO_UDP;
	fprintf(to, "dry run (%" PRId64 ".%" PRId64 " s, in a network of its own):\n",
		r->ran_ms / 1000, r->ran_ms % 1000 / 100);
	for (i = 0; i < d->n_sockets; i++) {
		const struct check_dry_socket *s = &d->sockets[i];

		if (s->any_port && !s->listens)
			any++;
		else if (!shown_before(d, i))
			works = show_address(to, r, s) && works;
	}
	if (any > 0)
		line(to, "note", "%s bound to port 0: left alone",
		     count(any, "socket was", "sockets were", n));
	show_forks(to, d);
	works = show_ending(to, r, served) && works;
	if (!served && !r->ended) {
		line(to, "no", "it did not listen: there is nothing to share");
		works = false;
	}
	show_log(to, r->log);
	if (d->full)
		line(to, "note", "there was more than is kept: not all of it is shown");
	return works;
}

/* See init.h. Runs as a constructor, or at the first hook when another library's constructor binds
 * before ours. No malloc, no stdio. */
#include "init.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../util/log.h"
#include "../util/num.h"
#include "fdtab.h"
#include "shard.h"

struct init init;
_Atomic pid_t init_pid;
_Atomic unsigned init_forks;
_Atomic bool init_sandboxed;
_Atomic bool init_accepted;

static _Atomic int stage; /* 0: nothing yet, 1: one thread is at it, 2: done */

static void bad(const char *name, const char *value, const char *allowed)
{
	log_error("%s: column 1: found \"%.40s\", allowed: %s", name, value, allowed);
	init.disabled = true;
}

static uint32_t number(const char *name, long min, long max, const char *allowed, uint32_t none)
{
	const char *value = secure_getenv(name);
	long n;

	if (!value)
		return none;
	if (num_parse(value, strlen(value), min, max, &n) < 0) {
		bad(name, value, allowed);
		return none;
	}
	return (uint32_t)n;
}

static void copy(char *to, size_t size, const char *name, const char *value, const char *allowed)
{
	if (value && strlen(value) >= size)
		bad(name, value, allowed);
	else if (value)
		strcpy(to, value);
}

static void read_group(void)
{
	static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	const char *value = secure_getenv("SOCKSHARD_GROUP");

	if (value && value[strspn(value, chars)] != '\0')
		bad("SOCKSHARD_GROUP", value, "1 to 63 of A-Z a-z 0-9 . _ -");
	else
		copy(init.group, sizeof(init.group), "SOCKSHARD_GROUP", value,
		     "1 to 63 of A-Z a-z 0-9 . _ -");
}

static void read_keeper(void)
{
	const char *value = secure_getenv("SOCKSHARD_KEEPER");

	if (!value || strcmp(value, "auto") == 0)
		return;
	if (strcmp(value, "off") == 0)
		init.keeper_off = true;
	else
		copy(init.keeper_name, sizeof(init.keeper_name), "SOCKSHARD_KEEPER",
		     *value ? value : NULL, "auto, off or a name of 1 to 107 visible characters");
}

static void read_workers(void)
{
	const char *value = secure_getenv("SOCKSHARD_WORKERS");

	if (!value || strcmp(value, "own") == 0)
		return;
	if (strcmp(value, "shared") == 0)
		init.workers_shared = true;
	else
		bad("SOCKSHARD_WORKERS", value, "own or shared");
}

static void read_policy(void)
{
	const char *text = secure_getenv("SOCKSHARD_POLICY");
	struct policy_error error;

	if (policy_load("SOCKSHARD_POLICY", text ? text : POLICY_DEFAULT, &init.policy, &error) < 0) {
		log_error("%s", error.text);
		init.disabled = true;
	}
}

/* One line of /proc/self/maps: "from-to perms offset dev inode   /path". */
static bool line_has(char *line, uintptr_t address, char *ret, size_t size)
{
	char *end, *path = strchr(line, '/');
	uintptr_t from = strtoul(line, &end, 16), to;

	if (*end != '-' || !path || strlen(path) >= size)
		return false;
	to = strtoul(end + 1, &end, 16);
	if (address < from || address >= to)
		return false;
	strcpy(ret, path);
	return true;
}

/* Where this library is, when the loader was given a relative name. */
static bool mapped_path(uintptr_t address, char *ret, size_t size)
{
	char buf[PATH_MAX + 512];
	size_t have = 0;
	bool found = false;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	while (fd != -1 && !found) {
		ssize_t n = read(fd, buf + have, sizeof(buf) - 1 - have);
		char *line = buf, *end;

		if (n <= 0)
			break;
		have += (size_t)n;
		buf[have] = '\0';
		while (!found && (end = strchr(line, '\n'))) {
			*end = '\0';
			found = line_has(line, address, ret, size);
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 0; /* a line longer than any path */
	}
	if (fd != -1)
		close(fd);
	return found;
}

/* The command beside the library, else in ../../bin/ of lib/sockshard/. Never by PATH. */
static bool find_command(const char *library)
{
	static const char *const places[] = { "sockshard", "../../bin/sockshard" };
	const char *slash = strrchr(library, '/');

	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		int n = snprintf(init.command, sizeof(init.command), "%.*s/%s",
		                 (int)(slash - library), library, places[i]);

		if (n > 0 && (size_t)n < sizeof(init.command) && access(init.command, X_OK) == 0)
			return true;
	}
	init.command[0] = '\0';
	return false;
}

static void read_command(void)
{
	const char *value = secure_getenv("SOCKSHARD_COMMAND");
	char library[PATH_MAX];
	Dl_info info;

	if (!dladdr(&stage, &info) || !info.dli_fname)
		return;
	if (info.dli_fname[0] == '/' && strlen(info.dli_fname) < sizeof(library))
		strcpy(library, info.dli_fname);
	else if (!mapped_path((uintptr_t)&stage, library, sizeof(library)))
		library[0] = '\0';
	if (find_command(library) || !value)
		return;
	if (value[0] != '/')
		bad("SOCKSHARD_COMMAND", value, "an absolute path");
	else
		copy(init.command, sizeof(init.command), "SOCKSHARD_COMMAND", value,
		     "an absolute path");
}

static void read_log(void)
{
	const char *value = secure_getenv("SOCKSHARD_LOG");

	if (log_setup(value) < 0)
		bad("SOCKSHARD_LOG", value, "error, warn, info or debug, or one of them with :/path");
	else
		copy(init.log, sizeof(init.log), "SOCKSHARD_LOG", value, "a shorter path");
}

static void read_settings(void)
{
	read_log();
	init.strict = number("SOCKSHARD_STRICT", 0, 1, "0 or 1", 0) == 1;
	init.slot = number("SOCKSHARD_SLOT", 0, 1023, "0-1023", WIRE_SLOT_ANY);
	init.generation = number("SOCKSHARD_GENERATION", 0, 2147483647, "0-2147483647", 0);
	init.weight = number("SOCKSHARD_WEIGHT", 0, 1000, "0-1000", 1);
	if (init.weight != 1) {
		log_error("SOCKSHARD_WEIGHT: a weight of %u is not supported by this version",
		          init.weight);
		init.disabled = true;
	}
	read_group();
	read_keeper();
	read_workers();
	read_policy();
	read_command();
	if (init.disabled)
		log_error("nothing is shared%s", init.strict ? ": every bind fails" : "");
}

static void before_fork(void)
{
	shard_before_fork(sys_get());
	fdtab_lock();
}

static void after_fork_parent(void)
{
	atomic_fetch_add_explicit(&init_forks, 1, memory_order_relaxed);
	fdtab_unlock();
	shard_after_fork(false);
}

static void after_fork_child(void)
{
	fdtab_reinit_lock();
	atomic_store(&init_pid, getpid());
	atomic_fetch_add_explicit(&init_forks, 1, memory_order_relaxed);
	shard_mark_inherited();
	shard_after_fork(true);
}

void init_ensure(void)
{
	int expected = 0, keep = errno;

	if (atomic_load_explicit(&stage, memory_order_acquire) == 2)
		return;
	if (!atomic_compare_exchange_strong(&stage, &expected, 1))
		return; /* another thread is at it: it is still loading, and nothing is ours yet */
	atomic_store(&init_pid, getpid());
	read_settings();
	(void)pthread_atfork(before_fork, after_fork_parent, after_fork_child);
	atomic_store_explicit(&stage, 2, memory_order_release);
	errno = keep;
}

bool init_is_self(void)
{
	/* A filter may forbid even getpid(2). */
	return atomic_load_explicit(&init_sandboxed, memory_order_relaxed) ||
	       atomic_load_explicit(&init_pid, memory_order_relaxed) == getpid();
}

void init_sandbox(void)
{
	atomic_store(&init_sandboxed, true);
	log_stop();
}

__attribute__((constructor)) static void on_load(void)
{
	init_ensure();
}

__attribute__((destructor)) static void on_exit_or_unload(void)
{
	shard_clean_exit();
}

/* Starting the process of a slot: its words, its environment, its descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cpus.h"
#include "run.h"

extern char **environ;

/* What run sets for each copy itself, or what is not meant for it. */
static const char *const replaced[] = {
	"SOCKSHARD_SLOT=",    "SOCKSHARD_GROUP=",      "SOCKSHARD_POLICY=",
	"SOCKSHARD_COMMAND=", "SOCKSHARD_GENERATION=", "LD_PRELOAD=",
};

#define REPLACED (sizeof(replaced) / sizeof(replaced[0]))

void run_copy_free(char **words)
{
	size_t i;

	for (i = 0; words != NULL && words[i] != NULL; i++)
		free(words[i]);
	free(words);
}

static bool is_replaced(const char *entry)
{
	size_t i;

	for (i = 0; i < REPLACED; i++) {
		if (strncmp(entry, replaced[i], strlen(replaced[i])) == 0)
			return true;
	}
	return false;
}

/* Appends a word to a list with room for it; false: no memory. */
static bool append(char **words, size_t *n, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static bool append(char **words, size_t *n, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&words[*n], format, ap);
	va_end(ap);
	if (r < 0) {
		words[*n] = NULL; /* vasprintf(3) leaves it undefined */
		return false;
	}
	(*n)++;
	return true;
}

/* Is the library already in a list of LD_PRELOAD (a run started by a copy of another run). */
static bool listed(const char *preload, const char *path)
{
	size_t n = strlen(path);

	while (*preload != '\0') {
		size_t word = strcspn(preload, " :");

		if (word == n && strncmp(preload, path, n) == 0)
			return true;
		preload += word + (preload[word] != '\0');
	}
	return false;
}

char **run_copy_environment(const struct run *r, unsigned k)
{
	const char *preload = getenv("LD_PRELOAD");
	size_t i, n = 0, had = 0;
	char **env;
	bool ok;

	while (environ[had] != NULL)
		had++;
	env = calloc(had + REPLACED + 1, sizeof(*env));
	if (env == NULL)
		return NULL;
	ok = append(env, &n, "SOCKSHARD_SLOT=%u", r->first + k) &&
	     append(env, &n, "SOCKSHARD_GROUP=%s", r->group) &&
	     append(env, &n, "SOCKSHARD_POLICY=%s", r->policy) &&
	     append(env, &n, "SOCKSHARD_COMMAND=%s", r->self);
	if (preload == NULL || preload[0] == '\0')
		ok = ok && append(env, &n, "LD_PRELOAD=%s", r->library.path);
	else if (listed(preload, r->library.path))
		ok = ok && append(env, &n, "LD_PRELOAD=%s", preload);
	else
		ok = ok && append(env, &n, "LD_PRELOAD=%s:%s", r->library.path, preload);
	for (i = 0; i < had && ok; i++) {
		if (!is_replaced(environ[i]))
			ok = append(env, &n, "%s", environ[i]);
	}
	if (!ok) {
		run_copy_free(env);
		return NULL;
	}
	return env;
}

/* The word with each {slot} replaced; NULL: no memory. */
static char *with_slot(const char *word, uint32_t slot)
{
	static const char mark[] = "{slot}";
	const char *found;
	char number[16], *text, *at;
	size_t marks = 0, n;

	n = (size_t)snprintf(number, sizeof(number), "%u", slot);
	for (found = strstr(word, mark); found != NULL; found = strstr(found + 1, mark))
		marks++;
	text = malloc(strlen(word) + marks * n + 1);
	if (text == NULL)
		return NULL;
	for (at = text; (found = strstr(word, mark)) != NULL; word = found + sizeof(mark) - 1) {
		at = mempcpy(at, word, (size_t)(found - word));
		at = mempcpy(at, number, n);
	}
	strcpy(at, word);
	return text;
}

char **run_copy_arguments(const struct run *r, unsigned k)
{
	char **from = r->options.command, **words;
	size_t i, n = 0;

	while (from[n] != NULL)
		n++;
	words = calloc(n + 1, sizeof(*words));
	if (words == NULL)
		return NULL;
	for (i = 0; i < n; i++) {
		words[i] = i == 0 ? strdup(from[i]) : with_slot(from[i], r->first + k);
		if (words[i] == NULL) {
			run_copy_free(words);
			return NULL;
		}
	}
	return words;
}

/* In the new process; our descriptors are close-on-exec. */
static void become(const struct run *r, unsigned k, char **argv, char **envp)
{
	const struct copy *c = &r->copies[k];
	int null = open("/dev/null", O_RDONLY), e;

	if (null > STDIN_FILENO) {
		dup2(null, STDIN_FILENO);
		close(null);
	}
	if (r->options.prefix && (dup2(c->output[0].write_fd, STDOUT_FILENO) < 0 ||
				  dup2(c->output[1].write_fd, STDERR_FILENO) < 0))
		_exit(CLI_NOT_RUNNABLE);
	if (r->options.pin && cpus_pin(k) != 0)
		cli_say("copy %u: cannot be pinned to a CPU, runs on all", r->first + k);
	run_signals_default(r);
	execvpe(r->command, argv, envp);
	e = errno;
	cli_say("run: %s: %s", r->command, strerror(e));
	_exit(e == ENOENT ? CLI_NOT_FOUND : CLI_NOT_RUNNABLE);
}

int run_copy_start(struct run *r, unsigned k)
{
	struct copy *c = &r->copies[k];
	char **argv = run_copy_arguments(r, k), **envp = run_copy_environment(r, k);
	pid_t pid = -1;
	int e = ENOMEM;

	if (argv != NULL && envp != NULL) {
		pid = fork();
		e = errno;
	}
	if (pid == 0)
		become(r, k, argv, envp);
	run_copy_free(argv);
	run_copy_free(envp);
	if (pid < 0)
		return -e;
	c->pid = pid;
	c->started_ms = cli_now_ms();
	c->start_at = RUN_NEVER;
	c->history.joined = false;
	return 0;
}

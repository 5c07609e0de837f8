/* See check_tree.h. Format: proc(5), /proc/PID/stat. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../util/num.h"
#include "check_tree.h"
#include "cli.h"

#define END_MS 5000

struct entry {
	pid_t pid, parent, session;
	bool mine, ended;
};

static bool read_entry(const char *name, struct entry *ret)
{
	char path[300], text[512];
	struct entry e = {0};
	const char *p;
	char state;
	long pid;
	ssize_t n;
	int fd;

	if (num_parse(name, strlen(name), 1, INT32_MAX, &pid) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%s/stat", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the command's name may contain anything */
	if (p == NULL || sscanf(p + 1, " %c %d %*d %d", &state, &e.parent, &e.session) != 3)
		return false;
	e.pid = (pid_t)pid;
	e.ended = state == 'Z' || state == 'X';
	*ret = e;
	return true;
}

/* All processes there are; malloc'ed. */
static struct entry *list(size_t *ret_n)
{
	struct entry *all = NULL, *more, e;
	size_t n = 0, room = 0;
	struct dirent *d;
	DIR *dir = opendir("/proc");

	while (dir != NULL && (d = readdir(dir)) != NULL) {
		if (!read_entry(d->d_name, &e))
			continue;
		if (n == room) {
			more = realloc(all, (room + 256) * sizeof(*all));
			if (more == NULL)
				break;
			all = more;
			room += 256;
		}
		all[n++] = e;
	}
	if (dir != NULL)
		closedir(dir);
	*ret_n = n;
	return all;
}

/* Marks the descendants, level by level. */
static void mark(struct entry *all, size_t n, bool deep)
{
	bool more = true;
	size_t i, k;

	for (i = 0; i < n; i++)
		all[i].mine = all[i].parent == getpid();
	while (deep && more) {
		more = false;
		for (i = 0; i < n; i++) {
			for (k = 0; k < n && !all[i].mine; k++) {
				if (all[k].mine && all[k].pid == all[i].parent)
					more = all[i].mine = true;
			}
		}
	}
}

size_t check_tree_signal(int number, bool all, pid_t but)
{
	size_t i, n, found = 0;
	struct entry *entries = list(&n);

	mark(entries, n, all);
	for (i = 0; i < n; i++) {
		const struct entry *e = &entries[i];

		if (!e->mine || e->ended || (but != 0 && e->session == but))
			continue;
		found++;
		if (number != 0)
			(void)kill(e->pid, number);
	}
	free(entries);
	return found;
}

bool check_tree_end(void)
{
	const struct timespec pause = {0, 5 * 1000 * 1000};
	int64_t end = cli_now_ms() + END_MS;
	pid_t pid;

	for (;;) {
		(void)check_tree_signal(SIGKILL, true, 0);
		do {
			pid = waitpid(-1, NULL, WNOHANG | __WALL);
		} while (pid > 0);
		if (pid < 0 && errno == ECHILD)
			return true;
		if (cli_now_ms() > end)
			return false;
		nanosleep(&pause, NULL);
	}
}

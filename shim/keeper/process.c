/* See process.h. Formats: proc(5). */
#include "process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../util/num.h"

#define PF_EXITING 0x4u /* include/linux/sched.h; field 9 of /proc/PID/stat */

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd == -1)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n == -1)
		n = -errno;
	close(fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

int process_pidfd_pid(int pidfd)
{
	char path[40], text[512];
	const char *p;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	n = read_file(path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	p = strstr(text, "\nPid:\t");
	if (!p)
		return -EBADF;
	p += strlen("\nPid:\t");
	if (strncmp(p, "-1", 2) == 0)
		return -ESRCH;
	return atoi(p); /* written by the kernel */
}

/* /proc/PID/stat after the command's name, which may contain anything: 0; -EINVAL, -ENOENT ... */
static int read_stat(uint32_t pid, char *ret_state, unsigned *ret_flags, uint64_t *ret_started)
{
	char path[32], text[1024];
	const char *p;

	(void)snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	if (read_file(path, text, sizeof(text)) < 0)
		return -ENOENT;
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1,
	                 " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d"
	                 " %*d %" SCNu64,
	                 ret_state, ret_flags, ret_started) != 3)
		return -EINVAL;
	return 0;
}

bool process_exiting(uint32_t pid)
{
	uint64_t started;
	unsigned flags;
	char state;
	int r = read_stat(pid, &state, &flags, &started);

	return r == -ENOENT || (r == 0 && (state == 'Z' || state == 'X' || (flags & PF_EXITING)));
}

uint64_t process_started(uint32_t pid)
{
	uint64_t started;
	unsigned flags;
	char state;

	if (read_stat(pid, &state, &flags, &started) < 0 || state == 'Z' || state == 'X')
		return 0;
	return started;
}

uint32_t process_parent(uint32_t pid)
{
	char path[32], text[1024];
	uint32_t parent;
	const char *p;

	(void)snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	if (read_file(path, text, sizeof(text)) < 0)
		return 0;
	p = strrchr(text, ')');
	return p && sscanf(p + 1, " %*c %u", &parent) == 1 ? parent : 0;
}

bool process_may_descend(uint32_t pid, uint32_t from)
{
	uint32_t parent = process_parent(pid);

	if (parent <= 1)
		return true;
	for (int depth = 0; depth < 64 && pid != from && pid > 1; depth++)
		pid = process_parent(pid);
	return pid > 1;
}

/* Has it a descriptor whose link in /proc/PID/fd is this text: 1, 0, -errno. */
static int has_link(uint32_t pid, const char *want)
{
	char path[300], link[64];
	struct dirent *e;
	DIR *dir;
	int r = 0;

	(void)snprintf(path, sizeof(path), "/proc/%u/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (r == 0 && (e = readdir(dir))) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/%u/fd/%s", pid, e->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		if (n == -1) {
			if (errno == EACCES || errno == EPERM)
				r = -errno;
			continue;
		}
		link[n] = '\0';
		r = strcmp(link, want) == 0;
	}
	closedir(dir);
	return r;
}

int process_holds(uint32_t pid, uint64_t inode)
{
	char want[64];

	(void)snprintf(want, sizeof(want), "socket:[%llu]", (unsigned long long)inode);
	return has_link(pid, want);
}

bool process_has_uring(uint32_t pid)
{
	int r = has_link(pid, "anon_inode:[io_uring]");

	return r == 1 || r == -EACCES || r == -EPERM;
}

uint32_t process_holder(uint64_t inode, char *ret_command, size_t size)
{
	uint32_t found = 0;
	struct dirent *e;
	char path[32];
	DIR *dir = opendir("/proc");

	ret_command[0] = '\0';
	if (!dir)
		return 0;
	while (!found && (e = readdir(dir))) {
		long pid;

		if (num_parse(e->d_name, strlen(e->d_name), 1, INT32_MAX, &pid) < 0)
			continue;
		if ((pid_t)pid != getpid() && process_holds((uint32_t)pid, inode) == 1)
			found = (uint32_t)pid;
	}
	closedir(dir);
	if (found) {
		(void)snprintf(path, sizeof(path), "/proc/%u/comm", found);
		if (read_file(path, ret_command, size) < 0)
			ret_command[0] = '\0';
		ret_command[strcspn(ret_command, "\n")] = '\0';
	}
	return found;
}

bool process_maps_library(uint32_t pid)
{
	char path[32], *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%u/maps", pid);
	f = fopen(path, "re");
	while (f && !found && getline(&line, &size, f) > 0)
		found = strstr(line, "/libsockshard.so") != NULL;
	free(line);
	if (f)
		(void)fclose(f);
	return found;
}

bool process_has_group(uint32_t pid, const char *group)
{
	static const char name[] = "SOCKSHARD_GROUP=";
	const char *value = "";
	char path[32], *entry = NULL;
	bool readable = false, found;
	size_t size = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%u/environ", pid);
	f = fopen(path, "re");
	while (f && *value == '\0' && getdelim(&entry, &size, '\0', f) > 0) {
		readable = true; /* a process that has overwritten it tells nothing */
		if (strncmp(entry, name, strlen(name)) == 0)
			value = entry + strlen(name);
	}
	found = readable && strcmp(value, group) == 0;
	free(entry);
	if (f)
		(void)fclose(f);
	return found;
}

static bool ends_with(const char *text, size_t n, const char *end)
{
	size_t e = strlen(end);

	return n > e && strncmp(text + n - e, end, e) == 0;
}

void process_service(char *ret_name, size_t size)
{
	char text[4096], *line, *rest = text;

	ret_name[0] = '\0';
	if (read_file("/proc/self/cgroup", text, sizeof(text)) < 0)
		return;
	while ((line = strsep(&rest, "\n"))) {
		char *part, *path = strchr(line, '/');

		while (path && (part = strsep(&path, "/"))) {
			size_t n = strlen(part);

			if (ends_with(part, n, ".service") || ends_with(part, n, ".scope"))
				(void)snprintf(ret_name, size, "%s", part);
		}
	}
}

uint64_t process_pid_space(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* See fdinfo.h. */
#include "fdinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../util/num.h"

#define BLIND_MAX      256
#define SEMAPHORES_MAX 64 /* of a set */

/* getdents64(2); libcs differ in what they call it. */
struct entry {
	uint64_t inode;
	int64_t next;
	uint16_t length;
	uint8_t type;
	char name[];
};

typedef void each_number(const struct sys *sys, int dir, int fd, void *arg);

static int each_of(const struct sys *sys, const char *path, each_number *visit, void *arg)
{
	union {
		struct entry align;
		char bytes[2048];
	} buf;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n, fd;

	if (dir == -1)
		return -errno;
	while ((n = sys->syscall(SYS_getdents64, dir, &buf, sizeof(buf))) > 0)
		for (long at = 0; at < n;) {
			const struct entry *e = (const void *)(buf.bytes + at);

			if (num_parse(e->name, strlen(e->name), 0, INT32_MAX, &fd) == 0 && fd != dir)
				visit(sys, dir, (int)fd, arg);
			at += e->length;
		}
	n = n < 0 ? -errno : 0;
	sys->close(dir);
	return (int)n;
}

struct each {
	void (*visit)(const struct sys *sys, int fd, void *arg);
	void *arg;
};

static void visit_number(const struct sys *sys, int dir, int fd, void *arg)
{
	const struct each *each = arg;

	(void)dir;
	each->visit(sys, fd, each->arg);
}

int fdinfo_each(const struct sys *sys, void (*visit)(const struct sys *sys, int fd, void *arg),
                void *arg)
{
	struct each each = { visit, arg };

	if (each_of(sys, "/proc/self/fd", visit_number, &each) == 0)
		return 0;
	for (int fd = 0; fd < BLIND_MAX; fd++)
		visit(sys, fd, arg);
	return 1;
}

/* The number behind a word of a line; false: no such word. */
static bool field(const char *line, const char *word, int base, unsigned long long *ret)
{
	const char *at = strstr(line, word);
	char *end;

	if (!at)
		return false;
	at += strlen(word);
	*ret = strtoull(at, &end, base);
	return end != at;
}

/* "tfd:        5 events:       19 data:                5  pos:0 ino:1b3b9 sdev:9" */
static void watch_line(const char *line, int epfd, const struct fdinfo_visitor *v)
{
	struct fdinfo_watch w = { .epfd = epfd };
	unsigned long long fd, events, data, inode = 0;

	if (!field(line, "tfd:", 10, &fd) || !field(line, "events:", 16, &events) ||
	    !field(line, "data:", 16, &data))
		return;
	(void)field(line, "ino:", 16, &inode);
	w.fd = (int)fd;
	w.events = (uint32_t)events;
	w.data = data;
	w.inode = inode;
	v->watch(&w, v->arg);
}

/* "lock:   1: POSIX  ADVISORY  WRITE 677 00:15:5 0 EOF"; of flock(2): FLOCK, of F_OFD_SETLK: without a pid */
static void lock_line(const char *line, const struct fdinfo_visitor *v)
{
	unsigned long long pid;

	if ((strstr(line, " POSIX ") || strstr(line, " FLOCK ")) &&
	    (field(line, " WRITE ", 10, &pid) || field(line, " READ ", 10, &pid)))
		v->lock((int)pid, v->arg);
}

/* Lines that are longer than the buffer are none of ours. */
static void each_line(int fd, void (*visit)(const char *line, void *arg), void *arg)
{
	char buf[1024], *end;
	size_t have = 0;
	ssize_t n;

	while ((n = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		char *line = buf;

		have += (size_t)n;
		buf[have] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			visit(line, arg);
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 0;
	}
}

struct info {
	const struct fdinfo_visitor *visitor;
	int fd;
};

static void info_line(const char *line, void *arg)
{
	const struct info *info = arg;

	if (strncmp(line, "tfd:", 4) == 0)
		watch_line(line, info->fd, info->visitor);
	else if (strncmp(line, "lock:", 5) == 0)
		lock_line(line, info->visitor);
}

static void visit_info(const struct sys *sys, int dir, int fd, void *arg)
{
	struct info info = { arg, fd };
	size_t at;
	char name[12];
	int file;

	at = sizeof(name);
	name[--at] = '\0';
	for (unsigned rest = (unsigned)fd; at == sizeof(name) - 1 || rest; rest /= 10)
		name[--at] = (char)('0' + rest % 10);
	file = openat(dir, name + at, O_RDONLY | O_CLOEXEC);
	if (file == -1)
		return;
	each_line(file, info_line, &info);
	sys->close(file);
}

int fdinfo_visit(const struct sys *sys, const struct fdinfo_visitor *visitor)
{
	return each_of(sys, "/proc/self/fdinfo", visit_info, (void *)(uintptr_t)visitor);
}

/* "       key      semid perms      nsems   uid ...": a line like that, or the numbers */
static void semaphore_line(const char *line, void *arg)
{
	bool *ret_holds = arg;
	char *end;
	long set, n;

	(void)strtol(line, &end, 10);
	set = strtol(end, &end, 10);
	(void)strtol(end, &end, 10);
	n = strtol(end, &end, 10);
	for (int i = 0; i < n && i < SEMAPHORES_MAX && !*ret_holds; i++)
		*ret_holds = semctl((int)set, i, GETVAL) == 0 &&
		             semctl((int)set, i, GETPID) == getpid();
}

bool fdinfo_holds_semaphore(const struct sys *sys)
{
	int file = open("/proc/sysvipc/sem", O_RDONLY | O_CLOEXEC);
	bool holds = false;

	if (file == -1)
		return false;
	each_line(file, semaphore_line, &holds);
	sys->close(file);
	return holds;
}

/* See fdinfo.h. */
#include "fdinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../util/num.h"

#define BLIND_MAX 256

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

static void one_line(const char *line, int fd, const struct fdinfo_visitor *v)
{
	if (strncmp(line, "tfd:", 4) == 0)
		watch_line(line, fd, v);
	else if (strncmp(line, "lock:", 5) == 0)
		lock_line(line, v);
}

static void visit_info(const struct sys *sys, int dir, int fd, void *arg)
{
	char name[12], buf[1024], *end;
	size_t have = 0, at = sizeof(name);
	ssize_t n;
	int info;

	name[--at] = '\0';
	for (unsigned rest = (unsigned)fd; at == sizeof(name) - 1 || rest; rest /= 10)
		name[--at] = (char)('0' + rest % 10);
	info = openat(dir, name + at, O_RDONLY | O_CLOEXEC);
	if (info == -1)
		return;
	while ((n = read(info, buf + have, sizeof(buf) - 1 - have)) > 0) {
		char *line = buf;

		have += (size_t)n;
		buf[have] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			one_line(line, fd, arg);
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 0; /* none of ours is that long */
	}
	sys->close(info);
}

int fdinfo_visit(const struct sys *sys, const struct fdinfo_visitor *visitor)
{
	return each_of(sys, "/proc/self/fdinfo", visit_info, (void *)(uintptr_t)visitor);
}

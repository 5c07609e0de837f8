/* --prefix. Never blocks on whoever reads our output: the copies wait for him, as they would
 * without us, but their supervisor does not. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "run_output.h"

#define FLUSH_MS 1000 /* how long the end of a copy's output may wait for a reader */

int output_open(struct output *o, unsigned slot, int to)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return -errno;
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	memset(o, 0, sizeof(*o));
	o->read_fd = fds[0];
	o->write_fd = fds[1];
	o->to = to;
	snprintf(o->tag, sizeof(o->tag), "[%u] ", slot);
	return 0;
}

void output_close(struct output *o)
{
	close(o->read_fd);
	close(o->write_fd);
	o->read_fd = o->write_fd = -1;
}

/* 1: written, or nobody will ever read it; 0: would block. */
static int write_line(struct output *o, size_t n, int wait_ms)
{
	struct pollfd p = {.fd = o->to, .events = POLLOUT};
	char text[sizeof(o->tag) + OUTPUT_LINE + 1];
	size_t tag = strlen(o->tag), done = 0, size;

	memcpy(text, o->tag, tag);
	memcpy(text + tag, o->line, n);
	size = tag + n;
	if (n == 0 || o->line[n - 1] != '\n')
		text[size++] = '\n';
	while (done < size) {
		/* a pipe that polls writable takes PIPE_BUF bytes without blocking, pipe(7) */
		if (poll(&p, 1, done == 0 ? wait_ms : FLUSH_MS) == 0)
			return done != 0;
		ssize_t r = write(o->to, text + done, size - done);

		if (r < 0 && errno != EINTR && errno != EAGAIN)
			return 1;
		done += r > 0 ? (size_t)r : 0;
	}
	return 1;
}

/* Writes what is in the buffer: whole lines, or everything. False when the reader is not ready. */
static bool write_lines(struct output *o, bool all, int wait_ms)
{
	while (o->used > 0) {
		const char *end = memchr(o->line, '\n', o->used);
		size_t n = end != NULL ? (size_t)(end - o->line) + 1 : o->used;

		if (end == NULL && !all && o->used < sizeof(o->line))
			return true;
		if (write_line(o, n, wait_ms) == 0)
			return false;
		o->used -= n;
		memmove(o->line, o->line + n, o->used);
	}
	return true;
}

static void pump(struct output *o, int wait_ms)
{
	for (;;) {
		ssize_t n;

		o->waiting = !write_lines(o, false, wait_ms);
		if (o->used == sizeof(o->line))
			return;
		n = read(o->read_fd, o->line + o->used, sizeof(o->line) - o->used);
		if (n <= 0)
			return; /* no more for now: both ends are ours, there is no end of file */
		o->used += (size_t)n;
	}
}

void output_pump(struct output *o)
{
	pump(o, 0);
}

void output_flush(struct output *o)
{
	pump(o, FLUSH_MS);
	if (write_lines(o, true, FLUSH_MS))
		o->waiting = false;
}

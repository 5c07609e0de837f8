/* One line per event, one write(2). Owns the descriptor of level:/path logs; nothing else. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static _Atomic int log_level = LOG_WARN;
static char log_path[256]; /* empty: standard error */

/* What descriptor 2 was when we were loaded: daemons close it and get a client's connection there. */
static struct {
	bool known;
	dev_t dev;
	ino_t ino;
} stderr_was;

/* inetd starts its services with the client's connection, or the listener, as 0, 1 and 2. */
static bool is_network_socket(int fd)
{
	struct sockaddr_storage name = { 0 };
	socklen_t len = sizeof(name);

	return getsockname(fd, (struct sockaddr *)&name, &len) == 0 &&
	       (name.ss_family == AF_INET || name.ss_family == AF_INET6);
}

int log_setup(const char *spec)
{
	struct stat st;
	size_t n;

	atomic_store(&log_level, LOG_WARN);
	log_path[0] = '\0';
	stderr_was.known = false;
	if (fstat(STDERR_FILENO, &st) == 0 && !is_network_socket(STDERR_FILENO)) {
		stderr_was.known = true;
		stderr_was.dev = st.st_dev;
		stderr_was.ino = st.st_ino;
	}
	if (!spec)
		return 0;
	n = strcspn(spec, ":");
	for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
		if (strlen(level_names[i]) != n || strncmp(spec, level_names[i], n) != 0)
			continue;
		if (spec[n] == ':') {
			if (spec[n + 1] != '/' || strlen(spec + n + 1) >= sizeof(log_path))
				return -EINVAL;
			strcpy(log_path, spec + n + 1);
		}
		atomic_store(&log_level, i);
		return 0;
	}
	return -EINVAL;
}

void log_stop(void)
{
	atomic_store(&log_level, -1);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static bool stderr_is_ours(void)
{
	struct stat st;

	return stderr_was.known && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == stderr_was.dev &&
	       st.st_ino == stderr_was.ino;
}

/* A server that ignores its standard error must not be killed or held up by it: the reader of a pipe
 * may be gone (SIGPIPE), or stand still. Then the line is lost. */
static void write_safely(int fd, const char *line, size_t n)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	const struct timespec now = { 0 };
	sigset_t broken, mask, before, after;

	if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
		return;
	sigemptyset(&broken);
	sigaddset(&broken, SIGPIPE);
	if (pthread_sigmask(SIG_BLOCK, &broken, &mask) != 0)
		return;
	if (sigpending(&before) == 0 && write(fd, line, n) == -1 && errno == EPIPE &&
	    !sigismember(&before, SIGPIPE) && sigpending(&after) == 0 &&
	    sigismember(&after, SIGPIPE))
		(void)sigtimedwait(&broken, NULL, &now); /* ours: it was sent to this thread */
	(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[LINE_MAX_BYTES + 2];
	int keep = errno, fd = STDERR_FILENO;
	size_t n;
	va_list ap;

	if (!log_enabled(level))
		return;
	n = (size_t)snprintf(line, sizeof(line), "sockshard: ");
	va_start(ap, format);
	(void)vsnprintf(line + n, LINE_MAX_BYTES - n, format, ap);
	va_end(ap);
	n = strlen(line);
	line[n++] = '\n';
	/* Opened for each line: a descriptor kept open would be in the server's way, and rotated
	 * logs would fill an unlinked file. Lines are rare. */
	if (log_path[0])
		fd = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	else if (!stderr_is_ours())
		fd = -1;
	if (fd >= 0) {
		write_safely(fd, line, n);
		if (fd != STDERR_FILENO)
			close(fd);
	}
	errno = keep;
}

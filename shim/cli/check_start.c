/* See check_start.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_start.h"
#include "check_watch.h"
#include "cli.h"
#include "run.h"

#define IDLE	 "86400" /* longer than any dry run */
#define READY_MS 3000

int check_start_log_open(struct check_start_log *log)
{
	const char *tmp = secure_getenv("TMPDIR");
	char value[300];
	int fd;

	if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > 150 || strchr(tmp, ':') != NULL)
		tmp = "/tmp";
	snprintf(log->folder, sizeof(log->folder), "%s/sockshard-check.XXXXXX", tmp);
	if (mkdtemp(log->folder) == NULL) {
		log->folder[0] = '\0';
		return -errno;
	}
	snprintf(log->path, sizeof(log->path), "%s/log", log->folder);
	fd = open(log->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* A worker that has changed its user writes there too. */
	(void)fchmod(fd, 0622);
	close(fd);
	(void)chmod(log->folder, 0711);
	snprintf(value, sizeof(value), "info:%s", log->path);
	return setenv("SOCKSHARD_LOG", value, 1) == 0 ? 0 : -errno;
}

char *check_start_log_text(const struct check_start_log *log, size_t max)
{
	int fd = open(log->path, O_RDONLY | O_CLOEXEC);
	char *text = fd >= 0 ? malloc(max + 1) : NULL;
	ssize_t n = text != NULL ? read(fd, text, max) : -1;

	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

void check_start_log_close(const struct check_start_log *log)
{
	if (log->folder[0] == '\0')
		return;
	unlink(log->path);
	rmdir(log->folder);
}

static void unblock(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void be_keeper(const char *self, const struct check_start_log *log, int ready)
{
	char number[16], value[300];
	int null = open("/dev/null", O_RDWR);

	snprintf(number, sizeof(number), "%d", ready);
	snprintf(value, sizeof(value), "warn:%s", log->path);
	setenv("SOCKSHARD_LOG", value, 1);
	unsetenv("SOCKSHARD_KEEPER");
	unsetenv("LD_PRELOAD");
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || setsid() < 0)
		_exit(1);
	(void)fcntl(ready, F_SETFD, 0);
	unblock();
	execl(self, "sockshard", "keeper", "--foreground", "--idle", IDLE, "--ready-fd", number,
	      (char *)NULL);
	_exit(1);
}

int check_start_keeper(const char *self, const struct check_start_log *log, pid_t *ret_pid)
{
	struct pollfd ready;
	int fds[2];
	pid_t pid;
	int r;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		be_keeper(self, log, fds[1]);
	r = pid < 0 ? -errno : 0;
	close(fds[1]);
	ready = (struct pollfd){.fd = fds[0], .events = POLLIN};
	if (r == 0) {
		*ret_pid = pid;
		if (poll(&ready, 1, READY_MS) != 1)
			r = -ETIMEDOUT;
	}
	close(fds[0]);
	return r;
}

/* In the new process: the filter comes last, since from then on somebody has to answer for us. */
static void be_command(const struct check_run *how, char **envp, int to, int from)
{
	int null = open("/dev/null", O_RDONLY), filter, e;
	char go;

	if (null > STDIN_FILENO && dup2(null, STDIN_FILENO) < 0)
		_exit(CLI_NOT_RUNNABLE);
	if (null > STDIN_FILENO)
		close(null);
	(void)dup2(STDERR_FILENO, STDOUT_FILENO);
	(void)setsid();
	unblock();
	filter = check_watch_install(&how->library->elf);
	if (write(to, &filter, sizeof(filter)) != (ssize_t)sizeof(filter) || filter < 0 ||
	    read(from, &go, 1) != 1)
		_exit(CLI_UNAVAILABLE);
	close(filter);
	execvpe(how->path, how->argv, envp);
	e = errno;
	cli_say("check --run: %s: %s", how->path, strerror(e));
	_exit(e == ENOENT ? CLI_NOT_FOUND : CLI_NOT_RUNNABLE);
}

/* A file's name as it still is when the command has changed its folder. */
static const char *absolute(const char *policy, char *buf, size_t size)
{
	char folder[PATH_MAX];

	if (policy[0] != '@' || policy[1] == '/' || getcwd(folder, sizeof(folder)) == NULL ||
	    snprintf(buf, size, "@%s/%s", folder, policy + 1) >= (int)size)
		return policy;
	return buf;
}

/* As of the first copy of `run`, with a keeper and a log of the dry run's own. */
static char **environment(const struct check_run *how)
{
	static struct run r;
	static char file[PATH_MAX + 1];

	snprintf(r.group, sizeof(r.group), "check");
	snprintf(r.self, sizeof(r.self), "%s", how->self);
	r.library = *how->library;
	r.policy = absolute(how->policy_text, file, sizeof(file));
	unsetenv("SOCKSHARD_KEEPER");
	unsetenv("SOCKSHARD_STRICT");
	return run_copy_environment(&r, 0);
}

/* The other side of be_command(): fetch the filter's descriptor, then let the process go on. */
static int shake_hands(pid_t pid, int from, int to, int *ret_listener)
{
	int filter = -EPROTO, r;

	if (read(from, &filter, sizeof(filter)) != (ssize_t)sizeof(filter))
		return -EPROTO;
	r = filter < 0 ? filter : check_watch_fetch(pid, filter);
	if (r < 0)
		return r;
	*ret_listener = r;
	(void)fcntl(r, F_SETFD, FD_CLOEXEC);
	return write(to, "", 1) == 1 ? 0 : -EPROTO;
}

int check_start_command(const struct check_run *how, pid_t *ret_pid, int *ret_listener)
{
	char **envp = environment(how);
	int there[2] = {-1, -1}, back[2] = {-1, -1}, r = 0;
	pid_t pid = -1;

	if (envp == NULL || pipe2(there, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0)
		r = -errno;
	if (r == 0) {
		pid = fork();
		r = pid < 0 ? -errno : 0;
	}
	if (pid == 0) {
		close(there[0]);
		close(back[1]);
		be_command(how, envp, there[1], back[0]);
	}
	close(there[1]);
	close(back[0]);
	if (r == 0) {
		*ret_pid = pid;
		r = shake_hands(pid, there[0], back[1], ret_listener);
	}
	close(there[0]);
	close(back[1]);
	run_copy_free(envp);
	if (r == 0)
		return 0;
	cli_say("check --run: the command's calls cannot be watched here (%s): seccomp "
		"notification "
		"is needed (Linux 5.6); the command was not started",
		strerror(-r));
	return CLI_UNAVAILABLE;
}

/* See stop_target.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "../keeper/process.h"
#include "../sys/pidfd.h"
#include "../sys/sys.h"
#include "cli.h"
#include "stop_target.h"

#define LOOK_MS 20 /* without a pidfd */

bool stop_target_open(const struct wire_status_launcher *l, struct stop_target *ret)
{
	ret->launcher = *l;
	ret->started = 0;
	ret->pidfd = (int)sys_get()->syscall(SYS_pidfd_open, (long)l->pid, 0L);
	if (ret->pidfd >= 0)
		return true;
	if (errno != ESRCH)
		ret->started = process_started(l->pid);
	return ret->started != 0;
}

void stop_target_close(struct stop_target *t)
{
	if (t->pidfd >= 0)
		close(t->pidfd);
	t->pidfd = -1;
}

static bool is_there(const struct stop_target *t)
{
	return t->started != 0 && process_started(t->launcher.pid) == t->started;
}

bool stop_target_wait(const struct stop_target *t, int ms)
{
	struct pollfd end = {.fd = t->pidfd, .events = POLLIN};
	int64_t until = cli_now_ms() + ms;

	if (t->pidfd >= 0)
		return poll(&end, 1, ms) > 0;
	while (is_there(t)) {
		if (ms >= 0 && cli_now_ms() >= until)
			return false;
		poll(NULL, 0, LOOK_MS);
	}
	return true;
}

int stop_target_term(const struct stop_target *t)
{
	long r = 0;

	if (t->pidfd >= 0)
		r = sys_get()->syscall(SYS_pidfd_send_signal, (long)t->pidfd, (long)SIGTERM, NULL,
				       0L);
	else if (is_there(t))
		r = kill((pid_t)t->launcher.pid, SIGTERM);
	return r == 0 || errno == ESRCH ? 0 : -errno;
}

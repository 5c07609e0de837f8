/* What follows when a copy has ended. */
#include <stdio.h>
#include <sys/wait.h>

#include "run_rules.h"

int64_t run_rules_backoff(unsigned n)
{
	int64_t ms = RUN_BACKOFF_FIRST_MS;

	while (n-- > 1 && ms < RUN_BACKOFF_LAST_MS)
		ms *= 2;
	return ms < RUN_BACKOFF_LAST_MS ? ms : RUN_BACKOFF_LAST_MS;
}

int run_rules_exit(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const char *run_rules_text(int status, char *buf, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(buf, size, "killed by signal %d", WTERMSIG(status));
	else
		snprintf(buf, size, "ended with status %d", WEXITSTATUS(status));
	return buf;
}

enum run_next run_rules_ended(struct run_history *h, enum run_restart restart, int status,
			      int64_t *ret_delay_ms)
{
	bool joined = h->joined, failed = run_rules_exit(status) != 0;

	h->joined = false;
	if (restart != RUN_RESTART_ALWAYS && !failed)
		return RUN_GIVE_UP;
	if (!h->ever)
		return RUN_STOP_ALL;
	if (restart == RUN_RESTART_NO)
		return RUN_GIVE_UP;
	h->failed_starts = joined ? 0 : h->failed_starts + 1;
	*ret_delay_ms = joined ? 0 : run_rules_backoff(h->failed_starts);
	return RUN_AGAIN;
}

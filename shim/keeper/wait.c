/* See wait.h. */
#include "wait.h"

#include <time.h>

#include "vault.h"

#define SPIN_US    60
#define GAP_US     10
#define MISSES_MAX 10 /* then one wait in 1,024 is tried */

static int64_t monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Of no use where the shard is busy, or has to wait for the CPU that we look from (a gap between two
 * looks: somebody else had it): each time that it was four times as many are left out, each time that
 * it was not half as many. */
static int look(struct keeper *k, struct epoll_event *events, int max)
{
	int64_t begun, last, now;
	int n;

	if (k->spins_left_out > 0) {
		k->spins_left_out--;
		return 0;
	}
	begun = now = monotonic_us();
	do {
		last = now;
		n = epoll_wait(k->epoll, events, max, 0);
		now = monotonic_us();
	} while (n == 0 && now - last < GAP_US && now - begun < SPIN_US);
	if (n > 0 && now - last < GAP_US)
		k->spins_missed -= k->spins_missed > 0;
	else
		k->spins_missed = k->spins_missed < MISSES_MAX - 1 ? k->spins_missed + 2 : MISSES_MAX;
	k->spins_left_out = (1u << k->spins_missed) - 1;
	return n;
}

int wait_events(struct keeper *k, struct epoll_event *events, int max, int timeout_ms)
{
	int n = 0;

	if (k->soon && timeout_ms != 0)
		n = look(k, events, max);
	k->soon = false;
	return n != 0 ? n : epoll_pwait(k->epoll, events, max, timeout_ms, vault_unblocked());
}

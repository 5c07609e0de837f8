/* How the worker waits for its next events. */
#ifndef SOCKSHARD_KEEPER_WAIT_H
#define SOCKSHARD_KEEPER_WAIT_H

#include <sys/epoll.h>

#include "state.h"

/**
 * wait_events - as epoll_pwait(2) on the worker's set, TERM and INT unblocked meanwhile
 *
 * With k->soon set it looks again and again for some microseconds before it sleeps: a shard is about
 * to ask, and waking a sleeping CPU for its question takes longer than the answer. Clears k->soon.
 */
int wait_events(struct keeper *k, struct epoll_event *events, int max, int timeout_ms);

#endif

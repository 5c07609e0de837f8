/* What outlives a worker: the memory that vault and worker share, with the worker's last committed
 * state. Anonymous, since both inherit it: it costs no descriptor and nobody else can reach it. */
#ifndef SOCKSHARD_KEEPER_SNAPSHOT_H
#define SOCKSHARD_KEEPER_SNAPSHOT_H

#include "state.h"

struct shared {
	struct {
		int pid;
		int pidfd; /* NONE: there is none */
	} vault, worker;
	int ready_fd;      /* closed by the first worker that works; NONE: done */
	_Atomic bool ending;
	unsigned in_vain;  /* workers in a row that died soon */
	int64_t made_at;   /* the worker, monotonic ms */
	struct { /* the request that is being handled: it may be what kills workers */
		int conn; /* NONE: none is */
		uint32_t seq;
		unsigned times;
	} attempt;
	uint64_t making; /* SO_COOKIE of a socket that made.c has not recorded yet; 0: there is none */
	_Atomic unsigned active; /* which of the two is whole */
	struct keeper state[2];
};

/** snapshot_make - nothing committed yet; NULL: no memory */
struct shared *snapshot_make(void);

/** snapshot_new - an empty private state; NULL: no memory */
struct keeper *snapshot_new(struct shared *shared);

/** snapshot_load - a private copy of what was committed last; NULL: no memory */
struct keeper *snapshot_load(struct shared *shared);

/** snapshot_drop - unmap a private state and the pages it has mapped; closes nothing */
void snapshot_drop(struct keeper *k);

/**
 * snapshot_identity - a number that tells a descriptor from whatever had its number before or after
 * SO_COOKIE of a socket; else the inode, marked as such; 0: not open
 */
uint64_t snapshot_identity(int fd);

#endif

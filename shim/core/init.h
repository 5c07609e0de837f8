/* What the preload knows about its process: the operator's settings, copied when the library loads
 * (nginx overwrites its environment), and how often the process has forked. */
#ifndef SOCKSHARD_CORE_INIT_H
#define SOCKSHARD_CORE_INIT_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../keeper/client.h"
#include "../policy/policy.h"

struct init {
	bool disabled;     /* a bad setting: the preload does nothing (strict: bind fails with EINVAL) */
	bool strict;
	bool keeper_off;
	bool workers_shared; /* SOCKSHARD_WORKERS=shared */
	uint32_t slot;     /* wanted, or WIRE_SLOT_ANY */
	uint32_t generation;
	uint32_t weight;
	char group[WIRE_GROUP_MAX];
	char keeper_name[112];      /* empty: the usual names */
	char command[PATH_MAX];     /* empty: cannot start a keeper */
	char log[272];
	struct policy policy;
};

extern struct init init;

/* The process that the tables in this memory belong to: not a vforked child. */
extern _Atomic pid_t init_pid;
/* Forks of this process since it was loaded: from then on somebody may share its descriptors. */
extern _Atomic unsigned init_forks;
/* Has it installed a seccomp filter: no new kind of system call from then on. */
extern _Atomic bool init_sandboxed;
/* Has a listener that is not ours been accepted from. */
extern _Atomic bool init_accepted;

/** init_ensure - copy the settings now, if no constructor of ours has run yet */
void init_ensure(void);

/** init_is_self - may state be changed: false in a vforked child, which runs in its parent's memory */
bool init_is_self(void);

/** init_sandbox - the server is installing a seccomp filter */
void init_sandbox(void);

#endif

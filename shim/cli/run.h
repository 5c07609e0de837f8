/* What the parts of `sockshard run` share: one struct run, in one thread. */
#ifndef SOCKSHARD_CLI_RUN_H
#define SOCKSHARD_CLI_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../keeper/client.h"
#include "library.h"
#include "run_options.h"
#include "run_output.h"
#include "run_rules.h"
#include "variables.h"

#define RUN_NEVER INT64_MAX

struct copy {	   /* a slot and the process that has it */
	pid_t pid; /* 0: none */
	int64_t started_ms;
	int64_t start_at; /* when it is to be started again; RUN_NEVER: not at all */
	struct run_history history;
	struct output output[2]; /* with --prefix: stdout, stderr */
};

enum run_stop { RUN_RUNS, RUN_STOP_FAILED, RUN_STOP_SIGNAL };

#define RUN_ADDRS_MAX 32 /* more are not woken after a keeper's end: they come by themselves */

struct run {
	struct run_options options;
	struct variables variables;
	const struct sys *sys;
	char self[PATH_MAX];	/* the sockshard command */
	char command[PATH_MAX]; /* what is executed */
	char group[WIRE_GROUP_MAX];
	const char *policy;		/* text for the copies */
	char policy_file[PATH_MAX + 1]; /* "@/absolute" where it is a file */
	bool shares; /* some rule makes copies join; else nobody can tell when they listen */
	struct library library;
	bool hup_ignored; /* as nohup(1) left it; the copies inherit that */

	struct copy *copies; /* n */
	unsigned n;
	uint32_t first; /* slot of copies[0] */
	int64_t started_ms;
	int64_t progress_at; /* say how many listen so far */
	bool all_listened;

	struct keeper_client keeper; /* fd -1: none */
	struct keeper_where where;
	bool registered;   /* once a keeper knew us: it is looked for again */
	unsigned held;	   /* sockets of ours that the keeper holds */
	uint32_t answered; /* the last question it has answered */
	int32_t last_event; /* its number */
	struct addr addrs[RUN_ADDRS_MAX]; /* where copies were seen to listen */
	unsigned n_addrs;
	unsigned keeper_tries;
	int64_t keeper_at; /* next try; RUN_NEVER: none */

	enum run_stop stop;
	int64_t kill_at;
	int status; /* of run itself */
};

/* run_copy.c */

/** run_copy_start - start the process of a slot; 0 or -errno */
int run_copy_start(struct run *r, unsigned k);

/** run_copy_environment - environment of slot k: malloc'ed array of malloc'ed words, NULL: no
 * memory */
char **run_copy_environment(const struct run *r, unsigned k);

/** run_copy_arguments - the command's words with {slot} replaced; as above */
char **run_copy_arguments(const struct run *r, unsigned k);

/** run_copy_free - free either of them; NULL is ignored */
void run_copy_free(char **words);

/* run_keeper.c */

/** run_keeper_open - reach or start the keeper and register; 0 or -errno */
int run_keeper_open(struct run *r);

/** run_keeper_receive - take the events that are there; notices when the keeper is gone */
void run_keeper_receive(struct run *r);

/** run_keeper_retry - look for the keeper again, when it is time */
void run_keeper_retry(struct run *r, int64_t now);

/** run_keeper_stopping - tell it that what ends from now on ends on purpose; waits for the answer
 */
void run_keeper_stopping(struct run *r);

/** run_keeper_settle - at the end: wait, not for ever, until the ports are free; closes the
 * connection */
void run_keeper_settle(struct run *r);

/** run_keeper_give_up - tell it that a slot is not started again */
void run_keeper_give_up(struct run *r, unsigned k);

/* run_signals.c */

/** run_signals_block - before anything is started: what run handles waits, SIGPIPE is ignored */
void run_signals_block(struct run *r);

/** run_signals_wait - poll(2) with the handled signals open; returns as poll, -1 and EINTR too */
int run_signals_wait(struct pollfd *fds, unsigned n, int64_t timeout_ms);

/** run_signals_take - did the signal come since the last call */
bool run_signals_take(int number);

/** run_signals_default - in a copy, before exec: everything as at the start of a process */
void run_signals_default(const struct run *r);

/* run_supervise.c */

/** run_supervise - start all copies, watch them to the end; returns the exit status */
int run_supervise(struct run *r);

#endif

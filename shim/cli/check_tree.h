/* The descendants of this process, wherever they have gone: it has to be their subreaper
 * (PR_SET_CHILD_SUBREAPER), so that a daemon stays below it. */
#ifndef SOCKSHARD_CLI_CHECK_TREE_H
#define SOCKSHARD_CLI_CHECK_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * check_tree_signal - send a signal to descendants that have not ended
 * @number: 0: only count them
 * @all: false: children only
 * @but: the session of those to be left out; 0: none
 *
 * Returns how many there are. Processes that start while it looks may be missed: call again.
 */
size_t check_tree_signal(int number, bool all, pid_t but);

/** check_tree_end - KILL all descendants, again and again until none is left; false: some are,
 * after 5 s. Reaps them */
bool check_tree_end(void);

#endif

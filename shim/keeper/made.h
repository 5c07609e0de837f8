/* Sockets that the keeper makes for processes which share one and want their own. */
#ifndef SOCKSHARD_KEEPER_MADE_H
#define SOCKSHARD_KEEPER_MADE_H

#include "sockopt.h"
#include "state.h"

/**
 * made_for - a listening socket of the same group, options, address and backlog as a held one
 * @conn: becomes its claimant, wherever it was an owner before
 * @source: the held socket that it is made like
 * @ret_option: the option that cannot be copied, or empty
 *
 * It has the lowest free slot, its buckets at once, a page and a token of its own. Commits. Returns the
 * member; -EACCES: the port is a low one; -EOPNOTSUPP and others of setsockopt(2), with the option;
 * -ENOSPC; others of socket(2), bind(2), listen(2).
 */
int made_for(struct keeper *k, int conn, int source, char ret_option[SOCKOPT_NAME_MAX]);

/**
 * made_found - a descriptor that nobody recorded, after a worker's end: true, emptied and closed, when it
 * is a socket that the worker was making. What waited in it goes to the others.
 */
bool made_found(struct keeper *k, int fd);

#endif

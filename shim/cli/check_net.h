/* The listening sockets of this process's network namespace, and a few clients for them. */
#ifndef SOCKSHARD_CLI_CHECK_NET_H
#define SOCKSHARD_CLI_CHECK_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../util/addr.h"
#include "check_dry.h"

#define CHECK_NET_ROUNDS 2 /* of clients, for each address */
#define CHECK_NET_ROUND	 4 /* clients at a time */

/**
 * check_net_line - one line of /proc/net/tcp or tcp6
 * @ret_waiting: connections in its queue
 *
 * Returns true for a socket that listens; v6only and device are not in there.
 */
bool check_net_line(const char *line, struct addr *ret_addr, uint64_t *ret_inode,
		    unsigned *ret_waiting);

/** check_net_listeners - note all TCP sockets that listen */
void check_net_listeners(struct check_dry *d);

struct check_net_clients {
	struct {
		struct addr addr;
		int64_t next_at; /* monotonic ms */
		unsigned rounds; /* done */
	} at[64];
	size_t n;
	int fds[64 * CHECK_NET_ROUND];
	size_t n_fds;
};

/**
 * check_net_visit - make connections to listeners that are due, one line feed each; those of the
 * call before are closed
 */
void check_net_visit(struct check_net_clients *c, struct check_dry *d, int64_t now_ms);

/** check_net_leave - close what is open */
void check_net_leave(struct check_net_clients *c);

#endif

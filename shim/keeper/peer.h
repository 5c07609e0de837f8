/* Who is at the other end of a unix connection, and under which names a keeper listens. */
#ifndef SOCKSHARD_KEEPER_PEER_H
#define SOCKSHARD_KEEPER_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "../sys/sys.h"

/**
 * peer_identify - credentials of the other end, as of its connect(2) or listen(2)
 * @ret_pid: 0 when it lives in another pid namespace
 */
int peer_identify(const struct sys *sys, int fd, uint32_t *ret_uid, uint32_t *ret_pid);

/**
 * peer_is - is the other end's uid this one
 *
 * The overflow uid stands for every uid that our user namespace does not know, so that "nobody" has
 * to be in our user namespace too.
 */
bool peer_is(uint32_t peer_uid, uint32_t peer_pid, uint32_t uid);

/**
 * peer_address - the abstract address of a name, or of the k-th default name of a uid
 * @name: NULL: sockshard/UID/k
 * Returns the length for bind(2) and connect(2); 0 when the name is too long.
 */
socklen_t peer_address(const char *name, uint32_t uid, unsigned k, struct sockaddr_un *ret);

#endif

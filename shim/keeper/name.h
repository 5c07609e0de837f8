/* The keeper's name: which abstract address it listens on. One keeper per user and network namespace,
 * however many are started at the same moment. */
#ifndef SOCKSHARD_KEEPER_NAME_H
#define SOCKSHARD_KEEPER_NAME_H

#include <stdint.h>

#include "../sys/sys.h"

#define NAME_BACKLOG 128

/**
 * name_listen - listen on the first name that no other user has
 * @name: abstract unix name, or NULL: sockshard/UID/k
 *
 * Returns a listening socket; -EEXIST when a keeper of this user has a name; -EADDRINUSE when others
 * have all of them; -errno.
 */
int name_listen(const struct sys *sys, const char *name, uint32_t uid);

#endif

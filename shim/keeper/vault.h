/* The two processes of the keeper. They have one descriptor table (CLONE_FILES), so that nothing is
 * closed when one dies, and memories of their own. The vault waits and makes a worker when there is
 * none; the worker makes a vault when that is gone. */
#ifndef SOCKSHARD_KEEPER_VAULT_H
#define SOCKSHARD_KEEPER_VAULT_H

#include <stdbool.h>

#include "snapshot.h"

enum vault_role { ROLE_VAULT, ROLE_WORKER, ROLE_OVER };

/** vault_open - the caller is the first vault; -ENOTSUP (said): no pidfds, it is the worker too */
int vault_open(struct shared *s);

/**
 * vault_watch - be the vault
 *
 * Returns ROLE_WORKER in a new worker, and in the caller when not even the first one can be made, which
 * has no vault then and says so; ROLE_OVER when all ends.
 */
enum vault_role vault_watch(struct shared *s);

/** vault_renew - the worker makes a new vault: 0; 1 in that vault; -errno: it could not */
int vault_renew(struct shared *s);

/** vault_is_over - has the process of this pidfd ended, or is there none */
bool vault_is_over(int pidfd);

/** vault_signals - SIGTERM and SIGINT only tell, and only inside the calls that unblock them */
void vault_signals(void);

/** vault_unblocked - the mask for these calls */
const void *vault_unblocked(void);

/** vault_terminated - has one of them come */
bool vault_terminated(void);

#endif

/* Claims: processes that hold a listening socket which others may hold too, forked workers above all.
 * At most one of those that want a socket of their own accepts from a held socket, its claimant; each
 * further one gets a socket that we make (made.h). */
#ifndef SOCKSHARD_KEEPER_CLAIM_H
#define SOCKSHARD_KEEPER_CLAIM_H

#include "state.h"

/**
 * claim_request - the process behind a connection takes its place at a held socket
 * @claim: names the socket by its token, or by its cookie
 * @fd: by cookie: the socket itself, looked at here; stays the caller's
 * @ret: made, why and option are written
 *
 * WIRE_WANT_OWN: it becomes the claimant when there is none; else the owner of a socket made for it;
 * where none can be made, an owner beside the claimant (ret->why: -EBUSY: the process that opened the
 * socket waits for its connections itself; else what making one failed with, and the option it was).
 * Asked once more by the same connection it has what it had. Returns the member that the connection
 * owns from now on; -ENOENT: no such held socket; -EBADF: @fd is not that socket, or the connection
 * has another one.
 */
int claim_request(struct keeper *k, int conn, const struct wire_claim *claim, int fd,
                  struct wire_joined *ret);

/** claim_accepts - does this owner, or did it, accept from its socket, as far as it can be known */
bool claim_accepts(const struct keeper *k, const struct conn *c);

/** claim_owners - how many processes accept from it */
unsigned claim_owners(const struct keeper *k, int member);

/** claim_refresh - the page's word stands for a claimant only as long as there is one */
void claim_refresh(struct keeper *k, int member);

#endif

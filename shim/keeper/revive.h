/* Held sockets that were made for a worker which is gone: for the next one, with what waits in them. */
#ifndef SOCKSHARD_KEEPER_REVIVE_H
#define SOCKSHARD_KEEPER_REVIVE_H

#include "state.h"

/**
 * revive_for - a made socket that nobody has any more, instead of making another
 * @conn: becomes its claimant, wherever it was an owner before
 * @source: the held socket that it was made like, whose options of now it must have
 *
 * Of several the one where most wait. It keeps its slot, or has the lowest free one; a token of its
 * own, and its buckets at once. What waits in it is accepted without a give. Nothing the kernel has
 * changes before the commit but the backlog. Returns the member, NONE: there is none.
 */
int revive_for(struct keeper *k, int conn, int source);

#endif

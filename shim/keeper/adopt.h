/* Going on where a keeper has ended altogether: living shards bring their sockets and what the last
 * keeper left in their pages. The program in the kernel stays right as long as nobody joins or leaves,
 * and is made anew only when the map it stands for has been verified. */
#ifndef SOCKSHARD_KEEPER_ADOPT_H
#define SOCKSHARD_KEEPER_ADOPT_H

#include "state.h"

/**
 * adopt_rejoin - a shard that listened under the keeper before us
 * @fd: its socket, taken on success; @legacy_fd: a memfd with a struct wire_legacy, the caller's;
 * NONE: it brings none, and gets a slot as if it had just joined
 *
 * The first of a group brings table, seed and indices; its siblings are known by slot and index from
 * then on (ghosts), and become members when they come. Returns the member; -EBADF, -EINVAL, -ENOSPC.
 */
int adopt_rejoin(struct keeper *k, int conn, const struct wire_rejoin *rejoin, int fd, int legacy_fd);

/** adopt_is_unchanged - do n listed sockets fit to a map with ghosts in it */
bool adopt_is_unchanged(const struct group *g, const uint64_t *cookies, size_t n);

/** adopt_give_up - somebody we did not know yet has gone, or come: the order is not certain any more */
void adopt_give_up(struct group *g);

/** adopt_leave_legacy - write what the next keeper needs into the pages of a group */
void adopt_leave_legacy(struct keeper *k, int group, const uint32_t index_of[BUCKETS_MAX]);

#endif

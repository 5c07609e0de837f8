/* Held sockets, and how they get there: by a join, a rejoin, a claim. */
#ifndef SOCKSHARD_KEEPER_MEMBER_H
#define SOCKSHARD_KEEPER_MEMBER_H

#include "state.h"

/** member_by_cookie - the held socket with this SO_COOKIE, or NONE */
int member_by_cookie(const struct keeper *k, uint64_t cookie);

/** member_takes - does it get new connections */
bool member_takes(const struct member *m);

/**
 * member_join - take a socket into its group: listen (TCP) or bind (UDP) it, find its index, deal
 * @conn: reserved the address before; becomes the owner
 * @fd: the socket, proven here; the caller's until success
 *
 * Returns the member; -EADDRINUSE and others of listen(2), bind(2); -EBADF: not the socket it says;
 * -EACCES (UDP): the keeper lacks the right, the shard may do it itself and say BOUND.
 */
int member_join(struct keeper *k, int conn, const struct wire_join *join, int fd, bool bound,
                bool *ret_taken);

/** member_joined - what follows; once more when a worker died in the middle of it. The member */
int member_joined(struct keeper *k, int conn);

/** member_for_all - the one socket of a group in mode shared; NONE: not there yet, or another mode */
int member_for_all(const struct keeper *k, int group);

/** member_is_alone - is it the only one with this socket: in mode shared all of a group have the same */
bool member_is_alone(const struct keeper *k, int member);

/** member_int - an int option of a held socket; -errno */
int member_int(const struct keeper *k, int fd, int level, int name);

/** member_vanished - our duplicate is closed: forget the member; its conn may listen again */
void member_vanished(struct keeper *k, int member);

/**
 * member_adopt - take a socket that listens already: it survived the keeper before us
 * @slot, generation, accepted: as it says
 *
 * Returns the member, without an index and without dealing; -EBADF, -ENOSPC.
 */
int member_adopt(struct keeper *k, int conn, const struct wire_rejoin *rejoin, int fd, uint32_t slot,
                 uint32_t generation);

/** member_new - an empty one; -ENOSPC */
int member_new(struct keeper *k);

/**
 * member_own - it is live, in the group that the connection has reserved, with the page made for it
 * @fd: the member's from now on
 */
void member_own(struct keeper *k, struct conn *c, int member, int fd, uint64_t cookie);

/** member_accepted - what this socket's shards have counted; to be asked before 2^31 more are */
uint64_t member_accepted(struct member *m);

/** member_queue - connections that wait in it; 0 when the system cannot tell */
unsigned member_queue(const struct keeper *k, const struct member *m);

#endif

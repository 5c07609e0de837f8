/* Held sockets: joining, leaving, death, eviction. */
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

/** member_vanished - our duplicate is closed: forget the member; its conn may listen again */
void member_vanished(struct keeper *k, int member);

/** member_release_leftovers - the last one left on purpose: the port is to be free for the next */
void member_release_leftovers(struct keeper *k, int group);
/**
 * member_adopt - take a socket that listens already: it survived the keeper before us
 * @slot, generation, accepted: as it says
 *
 * Returns the member, without an index and without dealing; -EBADF, -ENOSPC.
 */
int member_adopt(struct keeper *k, int conn, const struct wire_rejoin *rejoin, int fd, uint32_t slot,
                 uint32_t generation);

/** member_claim - a forked process takes its place beside or after the owner; -ENOENT, -EBUSY */
int member_claim(struct keeper *k, int conn, const uint8_t token[WIRE_TOKEN]);

/**
 * member_leave - the owner's socket was closed, or is to be disconnected now
 * @action: enum wire_leave
 */
int member_leave(struct keeper *k, int conn, uint32_t action);

/**
 * member_clean_exit - the owner runs exit(3)
 * @alone: nobody can have inherited the socket: the last of its group is released at once
 */
void member_clean_exit(struct keeper *k, int conn, bool alone);

/** member_evict_due - end a drained socket when nothing can arrive in it any more */
void member_evict_due(struct keeper *k, int member);

/** member_review - an owner's process or connection ended, or time has passed */
void member_review(struct keeper *k, int member);

/** member_next_ms - when the next held socket wants a review; NEVER */
int64_t member_next_ms(const struct keeper *k);

/** member_accepted - what this socket's shards have counted; to be asked before 2^31 more are */
uint64_t member_accepted(struct member *m);

/** member_queue - connections that wait in it; 0 when the system cannot tell */
unsigned member_queue(const struct keeper *k, const struct member *m);

#endif

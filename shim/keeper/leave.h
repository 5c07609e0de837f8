/* Held sockets that end: on purpose, drained, or because nobody is left. */
#ifndef SOCKSHARD_KEEPER_LEAVE_H
#define SOCKSHARD_KEEPER_LEAVE_H

#include "state.h"

/**
 * leave_request - the owner's socket was closed, or is to be disconnected now
 * @action: enum wire_leave
 */
int leave_request(struct keeper *k, int conn, uint32_t action);

/**
 * leave_clean_exit - the owner runs exit(3)
 * @alone: nobody can have inherited the socket: the last of its group is released at once
 */
void leave_clean_exit(struct keeper *k, int conn, bool alone);

/** leave_evict_due - end a drained socket when nothing can arrive in it any more */
void leave_evict_due(struct keeper *k, int member);

/** leave_leftovers - the last one left on purpose: the port is to be free for the next */
void leave_leftovers(struct keeper *k, int group);

/**
 * leave_withdraw - buckets first, then the socket, then the indices that its end has moved
 * @keep_home: its slot's next process gets its buckets back
 */
void leave_withdraw(struct keeper *k, int member, bool keep_home);

/** leave_drain - no new connections; what waits or still arrives goes to the others, then it ends */
void leave_drain(struct keeper *k, int member);

/** leave_is_drained - nothing waits in it, and no handshake can end in it any more */
bool leave_is_drained(struct keeper *k, int member);

/**
 * leave_release - close our duplicate
 *
 * The socket leaves the kernel's group unless somebody else still holds it. Committed before: one
 * change of the kernel's array at a time can be told for sure afterwards.
 */
void leave_release(struct keeper *k, int member);

/** leave_others_live - is there another in its group that gets new connections */
bool leave_others_live(const struct keeper *k, int member);

/** leave_has_other_owner - does a process other than this connection's hold it */
bool leave_has_other_owner(const struct keeper *k, int member, const struct conn *than);

#endif

/* A shard's connection to the keeper. */
#ifndef SOCKSHARD_CORE_LINK_H
#define SOCKSHARD_CORE_LINK_H

#include "shard.h"

#define LINK_RETRY_MS 500
/* An accept waits for a keeper that answers late for a tenth of the time at the most. */
#define LINK_COST_FACTOR 10

/** link_now_ms - the monotonic clock */
int64_t link_now_ms(void);

/**
 * link_rejoin - RESERVE and REJOIN on an open connection: the socket listens already
 * @legacy: tell what the keeper before left in the page
 *
 * Returns 0, s->token and s->counter, which the caller puts into the marks; -errno: as before.
 */
int link_rejoin(const struct sys *sys, struct shard *s, int fd, bool legacy);

/**
 * link_open - connect for a socket of ours
 * @s: keeper_uid says whose keeper; keeper and keeper_cookie are set; the descriptor is high,
 *     close-on-exec and in the table
 *
 * @start: start one when there is none
 *
 * Returns 0; -errno.
 */
int link_open(const struct sys *sys, struct shard *s, bool start);

/**
 * link_restore - reach the keeper again, or the next one, after the connection was lost
 * @fd: the listening socket
 *
 * Known to the keeper by its token; to the next one by what the last one left in the page. Tried at
 * most once in LINK_RETRY_MS. Returns 0; -EAGAIN too early; -errno.
 */
int link_restore(const struct sys *sys, struct shard *s, int fd);

/** link_ask - one question; what ends the connection's use closes it. The answer's result or -errno */
int link_ask(const struct sys *sys, struct shard *s, struct wire_packet *packet);

/** link_tell - its first half: sent, and after 0 nobody else asks before link_hear(). 0 or -errno */
int link_tell(const struct sys *sys, struct shard *s, struct wire_packet *packet);

/** link_hear - its second half: the answer */
int link_hear(const struct sys *sys, struct shard *s, struct wire_packet *packet);

/** link_renumber - the connection with this number has another one now (-1: none). Under the lock */
void link_renumber(int fd, int moved);

/**
 * link_is_internal - is this number, marked as the preload's own, still that connection
 *
 * False: it was closed behind our back and is somebody's now; then the mark is taken off.
 */
bool link_is_internal(const struct sys *sys, int fd);

/** link_close - close the connection, if it is still ours */
void link_close(const struct sys *sys, struct shard *s);

/** link_leave - tell the keeper that the socket leaves; 0, or -errno of what the keeper did for it */
int link_leave(const struct sys *sys, struct shard *s, uint32_t action);

/** link_failed - is this the failure of a connection, rather than the keeper's answer */
bool link_failed(int r);

/**
 * link_reserve - RESERVE the shard's address, and map the page that comes with it
 * @rejoins: it listens already
 */
int link_reserve(const struct sys *sys, struct shard *s, bool rejoins);

/** link_map_counter - map the page that came with RESERVE; closes the packet's descriptor */
void link_map_counter(const struct sys *sys, struct shard *s, struct wire_packet *packet);

/** link_unmap_counter - the page may be used by the next listener; its address stays valid */
void link_unmap_counter(struct shard *s);

#endif

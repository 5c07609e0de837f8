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

/** link_is_lost - is there no connection, or one that the keeper has ended */
bool link_is_lost(const struct sys *sys, const struct shard *s);

/**
 * link_restore - reach the keeper again, or the next one, if the connection is lost
 * @fd: the listening socket
 *
 * Known to the keeper by its token; to the next one by what the last one left in the page. Tried at
 * most once in LINK_RETRY_MS; other threads wait for the one that tries. Returns 0; -EAGAIN too early;
 * -errno.
 */
int link_restore(const struct sys *sys, struct shard *s, int fd);

/**
 * link_take_turn - the connection is this thread's alone, until link_end_turn()
 *
 * Whoever asks, and whoever puts another connection in its place, does so in a turn. Returns 0; -EBUSY:
 * another thread has it longer than a question can take.
 */
int link_take_turn(struct shard *s);

/** link_end_turn - the next thread's */
void link_end_turn(struct shard *s);

/** link_ask - one question in a turn of its own; what ends the connection's use closes it. The
 * answer's result or -errno */
int link_ask(const struct sys *sys, struct shard *s, struct wire_packet *packet);

/** link_tell, link_hear - its two halves, in a turn of the caller's, who ends the connection's use */
int link_tell(const struct sys *sys, struct shard *s, struct wire_packet *packet);
int link_hear(const struct sys *sys, struct shard *s, struct wire_packet *packet);

/**
 * link_give_up - a keeper that does not answer what a nudge is: it is not asked again, in a turn
 *
 * It sees the end of the connection when it goes on, and calls anew then.
 */
void link_give_up(const struct sys *sys, struct shard *s);

/** link_renumber - the connection with this number has another one now (-1: none). Under the lock */
void link_renumber(int fd, int moved);

/**
 * link_is_internal - is this number, marked as the preload's own, still that connection
 *
 * False: it was closed behind our back and is somebody's now; then the mark is taken off.
 */
bool link_is_internal(const struct sys *sys, int fd);

/** link_close - close the connection, if it is still ours; in a turn, or where no other thread can ask */
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

/* Groups: reserving an address, mirroring the kernel's array, dealing buckets and steering. */
#ifndef SOCKSHARD_KEEPER_GROUP_H
#define SOCKSHARD_KEEPER_GROUP_H

#include "state.h"

/**
 * group_reserve - may a shard bind this address under this name
 *
 * Returns the group, made when it is new; -EADDRINUSE: the address overlaps with another name or
 * address of ours, or with a foreign socket, as the server would have found without us; -ENOSPC.
 */
int group_reserve(struct keeper *k, const struct wire_reserve *want);

/** group_release_if_empty - forget a group that nobody holds or has reserved */
void group_release_if_empty(struct keeper *k, int group);

/** group_list - bring the index map in line with the kernel; 0, -ENOTSUP or -errno */
int group_list(struct keeper *k, int group);

/** group_steer - deal the buckets to the live shards and attach the program */
void group_steer(struct keeper *k, int group);

/** group_supervised - does a launcher look after this slot */
bool group_supervised(const struct keeper *k, int group, uint32_t slot);

/** group_pick_slot - the slot for a newcomer; *ret_taken: the wanted one is held by a live process */
int group_pick_slot(const struct keeper *k, int group, const struct conn *conn, bool *ret_taken);

/**
 * group_is_heard - do the group's servers accept through the preload
 *
 * One that accepts by system calls of its own, or by io_uring, would take a nudge for a client. Known by
 * the counters; where nobody has counted yet, by connections that somebody has accepted all the same.
 */
bool group_is_heard(struct keeper *k, int group);

/**
 * group_half_open - handshakes that may still end in a socket without buckets since @idle_ms
 *
 * @defer_seconds: TCP_DEFER_ACCEPT of the socket; 0 or less: not set
 *
 * Younger ones than that belong to others. -ENOTSUP or -errno where the kernel cannot be asked.
 */
int group_half_open(struct keeper *k, int group, int64_t idle_ms, int defer_seconds);

/** group_strangers - listed sockets of the group's port that are not ours: at most max */
size_t group_strangers(struct keeper *k, int group, struct os_listener *ret, size_t max);

#endif

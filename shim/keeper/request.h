/* What the keeper answers to each message. */
#ifndef SOCKSHARD_KEEPER_REQUEST_H
#define SOCKSHARD_KEEPER_REQUEST_H

#include "state.h"

/**
 * request_handle - one packet of a connection
 * @packet: its descriptors are taken or closed here
 *
 * Returns 0; -errno: the connection is to be closed (it broke the protocol).
 */
int request_handle(struct keeper *k, int conn, struct wire_packet *packet);

/**
 * request_reply - what is sent to a connection after the commit (conn.c); returns 0
 *
 * The packet's descriptors are recorded elsewhere.
 */
int request_reply(struct keeper *k, const struct conn *c, struct wire_packet *p, uint32_t seq,
                  int result);

/** status_send - the answer to WIRE_STATUS, without the closing reply; 0 or -errno */
int status_send(struct keeper *k, const struct conn *c, uint32_t seq);

/** conn_watch_process - wait for the end of the process behind a connection; 0 or -errno */
int conn_watch_process(struct keeper *k, int conn, int pidfd);

#endif

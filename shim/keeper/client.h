/* The other end of the keeper: find it, start it, ask it. Used in the preload (one connection per
 * listening socket) and by the command. Every call has a deadline; nothing here takes a lock. */
#ifndef SOCKSHARD_KEEPER_CLIENT_H
#define SOCKSHARD_KEEPER_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "../sys/sys.h"
#include "wire.h"

#define KEEPER_NAMES       8    /* sockshard/UID/0 .. 7 */
#define KEEPER_DEADLINE_MS 1000 /* of one question */
#define KEEPER_START_MS    3000 /* of starting one */

struct keeper_where {
	const char *name;    /* abstract unix name, or NULL: sockshard/UID/k */
	const char *command; /* path of the sockshard command, or NULL: do not start one */
	const char *log;     /* SOCKSHARD_LOG for a keeper started by us, or NULL */
	uint32_t uid;        /* whose keeper */
};

struct keeper_client {
	int fd; /* -1: not connected */
	uint32_t seq;
	uint32_t keeper_pid;
	struct wire_hello hello; /* the keeper's answer */
};

/**
 * keeper_connect - find the keeper, start it when there is none and a command is given, say HELLO
 * @role: enum wire_role
 * @pidfd: the caller's own, or -1; stays the caller's
 *
 * Returns 0 and a connection whose fd the caller closes; -ENOENT no keeper (none started),
 * -ETIMEDOUT, -EPROTONOSUPPORT no common version, -EPERM every name belongs to others, -errno.
 */
int keeper_connect(const struct sys *sys, const struct keeper_where *where, unsigned role, int pidfd,
                   struct keeper_client *ret_client);

/**
 * keeper_look - who listens on name @k
 *
 * Returns 0: a keeper of this user; -EPERM another user's process; -ECONNREFUSED nobody; -EAGAIN it
 * takes no more connections; -errno.
 */
int keeper_look(const struct sys *sys, const struct keeper_where *where, unsigned k);

/**
 * keeper_ask - one question, one answer, within KEEPER_DEADLINE_MS
 * @packet: in: type, body, fds (stay the caller's); out: the answer (fds become the caller's)
 *
 * Events that come in between are dropped. Returns the answer's result; -EBUSY: not even sent;
 * -ETIMEDOUT: sent, and the keeper will read it before it sees our end; these, -ECONNRESET and -EPROTO:
 * the connection is of no more use.
 */
int keeper_ask(const struct sys *sys, struct keeper_client *client, struct wire_packet *packet);

/** keeper_tell - send without waiting for an answer; 0 or -errno */
int keeper_tell(const struct sys *sys, struct keeper_client *client, struct wire_packet *packet);

/** keeper_hear - the answer to what was told last; as keeper_ask() */
int keeper_hear(const struct sys *sys, struct keeper_client *client, struct wire_packet *packet);

/**
 * keeper_start - start `COMMAND keeper` detached from the caller: no SIGCHLD, no zombie, no descriptor
 * of ours, empty signal mask, default signals, own session, cwd /, environment without LD_*
 *
 * Returns 0 when a keeper listens (ours or one that was quicker); -errno.
 */
int keeper_start(const struct sys *sys, const struct keeper_where *where);

#endif

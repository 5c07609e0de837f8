/* What the files about forked workers share: claiming (shard_claim.c), the registrations with epoll
 * (shard_epoll.c), moving to another socket (shard_move.c), unknown listeners (shard_inherit.c). All
 * of it under the lock of claims, which one thread of a process has at a time. */
#ifndef SOCKSHARD_CORE_SHARD_PARTS_H
#define SOCKSHARD_CORE_SHARD_PARTS_H

#include "shard.h"

#define WATCHES_MAX 32

/* The registrations of a socket with epoll instances of this process. */
struct shard_watches {
	const char *bound; /* why the socket cannot be replaced by another one; NULL: it can */
	unsigned n;
	struct shard_watch {
		int epfd, fd;
		uint32_t events;
		uint64_t data;
	} w[WATCHES_MAX];
};

/** shard_watches - find them, and what else speaks against a socket of the process's own */
void shard_watches(const struct sys *sys, const struct shard *s, struct shard_watches *ret);

/** shard_epoll_is_own - made by this process since its last fork: nobody shares it */
bool shard_epoll_is_own(int epfd);

/** shard_epoll_forked - in parent and child: what there is may be shared from now on */
void shard_epoll_forked(void);

/** shard_epoll_forget - a number is closed. Under the lock of fdtab */
void shard_epoll_forget(int fd);

/**
 * shard_move - put another socket under all numbers of a shard, and register that one instead
 * @fd: the other one; closed when the move succeeded
 *
 * Returns 0; -errno: nothing has changed.
 */
int shard_move(const struct sys *sys, struct shard *s, int fd, const struct shard_watches *watches);

/** shard_replace - as shard_move, for a socket of our own that does not listen */
int shard_replace(const struct sys *sys, struct shard *s, int fd, const struct shard_watches *watches);

/**
 * shard_option - what makes a socket that is about to be bound one of several
 *
 * In mode shared, with a keeper, it does without where the system refuses: s->alone.
 * Returns 0; -ENOTSUP and why; -errno.
 */
int shard_option(const struct sys *sys, int fd, struct shard *s, char *why);

/**
 * shard_bind_named - mode shared: the address is the socket of all's, so that this one has its name only
 *
 * Where the system lets several sockets have an address, each is bound; else all but the first get
 * theirs at listen, with that socket. Returns 0; -EADDRINUSE: somebody else has it.
 */
int shard_bind_named(const struct sys *sys, int fd, struct shard *s);

/** shard_bind_late - the bind that was put off; 0 when there is none. -errno of bind(2) */
int shard_bind_late(const struct sys *sys, int fd, struct shard *s);

/**
 * shard_share - mode shared: the answer to JOIN brought the socket of all; it gets our numbers
 *
 * Returns 0; -errno: the keeper knows that we do without it.
 */
int shard_share(const struct sys *sys, struct shard *s, struct wire_packet *joined);

/**
 * shard_unshare - mode shared: leave, and get a fresh socket, bound to the address, for our numbers,
 * so that what the server does to it next does not happen to everybody's
 */
int shard_unshare(const struct sys *sys, struct shard *s);

/**
 * shard_claim - take part in a held socket: by token, else by descriptor
 * @fd: a number of it
 * @start: start a keeper when there is none
 * @rejoins: when no keeper knows it: join
 *
 * Another socket may have the shard's numbers afterwards. Returns 0 and s->part; -ENOENT: not held;
 * -errno.
 */
int shard_claim(const struct sys *sys, struct shard *s, int fd, enum wire_want want,
                const struct shard_watches *watches, bool start, bool rejoins);

/** shard_say_part - the answer to a claim, in one line of the log */
void shard_say_part(const struct shard *s, int fd, const struct wire_joined *j);

/** shard_want - a socket of its own, or why not: then watches->bound, where there is a reason */
enum wire_want shard_want(const struct sys *sys, const struct shard *s, int epfd,
                          struct shard_watches *ret_watches);

/**
 * shard_reclaim - with the next keeper, or a new connection, if there is none; from the thread that accepts
 *
 * Waits for another thread that is at it, and does not try again what that one has tried in vain. Returns 0;
 * -EAGAIN: not yet; -errno.
 */
int shard_reclaim(const struct sys *sys, struct shard *s, int fd);

/**
 * shard_hold - take part in a socket of ours that another process has made a held one, without accepting
 *
 * From the first accept on it is claimed as by any forked worker. Returns 0; -errno.
 */
int shard_hold(const struct sys *sys, struct shard *s, int fd);

/** shard_inherit - look into a number whose mark is none, or FDTAB_CLAIM alone */
void shard_inherit(const struct sys *sys, int fd, enum shard_touch touch, int epfd);

/** shard_hold_unknown - tell the keeper of the listeners that were here before this program */
void shard_hold_unknown(const struct sys *sys);

#endif

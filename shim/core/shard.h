/* The decisions of the preload: what each hooked call means for a socket of ours. Every function
 * behaves as the call of its name, with -errno for -1; descriptors it does not know pass through. */
#ifndef SOCKSHARD_CORE_SHARD_H
#define SOCKSHARD_CORE_SHARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "../keeper/client.h"
#include "../sys/sys.h"
#include "../util/addr.h"
#include "fdtab.h"

enum shard_state {
	SHARD_BOUND,  /* reserved; TCP: not listening yet */
	SHARD_JOINED, /* held by the keeper */
	SHARD_PLAIN,  /* only the option is set: no keeper */
};

enum shard_part { /* of this process in the socket, as the keeper knows it */
	SHARD_NONE,    /* none: its parent has one */
	SHARD_JOINER,  /* it joined */
	SHARD_CLAIMED, /* it accepts from it, and nobody else does */
	SHARD_BESIDE,  /* it accepts from it, beside others */
	SHARD_WAITS,   /* beside the process that joined, until that one accepts, if it ever does: a
	                * master that only watches its workers' listener never will */
	SHARD_HOLDS,   /* it does not accept (yet) */
};

/* One socket of ours in this process. Under the lock of fdtab, but for the connection. */
struct shard {
	struct addr addr;
	enum shard_state state;
	enum shard_part part; /* of the process that is owner */
	uint64_t cookie;      /* SO_COOKIE: proves that a descriptor is still this socket */
	uint64_t moving;      /* and while the numbers get another socket: that of the other one */
	pid_t owner;          /* the process that reserved or claimed it */
	unsigned fds;         /* descriptors in the table */
	unsigned users;       /* threads at work on it */
	unsigned forks;       /* init_forks when it became ours */
	bool had_port;        /* the server itself had set SO_REUSEPORT */
	bool had_addr;        /* and SO_REUSEADDR */
	bool own_program;     /* the server attached a program */
	bool shared;          /* mode shared: the socket is everybody's */
	bool listened;        /* that one was there when the address was reserved */
	bool alone;           /* mode shared, where the system's option cannot be had */
	bool unbound;         /* bound in name only: the socket of all has the address */
	struct keeper_client keeper; /* fd -1: none */
	uint32_t keeper_uid;         /* whose keeper it is: a worker may change its own uid */
	uint64_t keeper_cookie;      /* proves that keeper.fd is still ours */
	struct wire_page *counter;
	uint8_t token[WIRE_TOKEN];
	uint32_t mode, key, hold_ms, stuck_ms; /* as the policy says for this address */
	int64_t retry_at;      /* monotonic ms: not before may the keeper be looked for again */
	_Atomic bool busy;    /* a question is under way */
};

int shard_bind(const struct sys *sys, int fd, const struct sockaddr *addr, socklen_t len);
int shard_listen(const struct sys *sys, int fd, int backlog);
int shard_connect(const struct sys *sys, int fd, const struct sockaddr *addr, socklen_t len);
int shard_shutdown(const struct sys *sys, int fd, int how);
int shard_close(const struct sys *sys, int fd);
int shard_close_range(const struct sys *sys, unsigned int first, unsigned int last, int flags);
/* closefrom(3) where the system has no close_range(2): one by one, up to the limit. */
void shard_close_each(const struct sys *sys, unsigned int first);

int shard_dup(const struct sys *sys, int fd);
int shard_dup2(const struct sys *sys, int fd, int fd2);
int shard_dup3(const struct sys *sys, int fd, int fd2, int flags);
int shard_fcntl_dup(const struct sys *sys, int fd, int cmd, int from);
int shard_getsockname(const struct sys *sys, int fd, struct sockaddr *addr, socklen_t *len);
int shard_setsockopt(const struct sys *sys, int fd, int level, int name, const void *value,
                     socklen_t len);

/** shard_reused - the kernel gave a number of ours to somebody: ours was closed unseen */
void shard_reused(const struct sys *sys, int fd);

/* What the server does with a listener. */
enum shard_touch {
	TOUCH_HOLD,   /* lists or hands it on */
	TOUCH_WAIT,   /* waits for events of it */
	TOUCH_ACCEPT,
};

/**
 * shard_touch - before the first accept from, and the first wait for, a listener in this process
 * @epfd: where it is about to be registered, or -1
 *
 * A forked process claims it: from then on the socket is its own, or another one of its own has its
 * number, or it is shared with a reason. A listener that this memory does not know is looked into.
 * One thread does so, the others wait for it.
 */
void shard_touch(const struct sys *sys, int fd, enum shard_touch touch, int epfd);

/**
 * shard_received - another process has sent this descriptor
 *
 * The keeper is told at once that this process has the listener, too: the one that sent it may close it
 * next, and nobody else could know that its queue is not to be emptied then.
 */
void shard_received(const struct sys *sys, int fd);

/** shard_scan - mark the listeners that were here before this program, once */
void shard_scan(const struct sys *sys);

/** shard_before_fork, shard_after_fork - with the lock of all claims held in between. Before the first
 * fork the keeper is told of the listeners that were here before this program: a child that has
 * changed its user can only claim by the token of its parent */
void shard_before_fork(const struct sys *sys);
void shard_after_fork(bool child);

int shard_epoll_ctl(const struct sys *sys, int epfd, int op, int fd, struct epoll_event *event);

/** shard_epoll_created - this process has made an epoll instance */
void shard_epoll_created(const struct sys *sys, int epfd);

/** shard_epoll_watched - how many registrations of ours are known */
unsigned shard_epoll_watched(void);

/** shard_epoll_wait - it waits for events of whatever is registered there */
void shard_epoll_wait(const struct sys *sys, int epfd);

/**
 * shard_given - what the server gets for a connection it accepted while the keeper nudges
 * @addr, len, flags: as of accept4(2)
 * @room: what *len was before the accept; the kernel has put the address's whole length there
 *
 * Returns the connection itself when it is a client's; the one that waited elsewhere when it was a
 * nudge; -ECANCELED when a nudge brought nothing: accept again. The nudge is closed and not counted;
 * the server gets it, closed by the keeper, where accepting again would wait for a client.
 */
int shard_given(const struct sys *sys, int fd, int accepted, struct sockaddr *addr, socklen_t *len,
                socklen_t room, int flags);

/** shard_notice - the kernel says that the keeper has ended: find the next one */
void shard_notice(const struct sys *sys, int fd);

/** shard_mark_inherited - in a forked child: nothing is ours before it is claimed */
void shard_mark_inherited(void);

/** shard_sandboxed - the server is about to install a seccomp filter: nothing can be asked after it */
void shard_sandboxed(void);

/** shard_clean_exit - exit(3) runs: tell the keeper that this is no crash */
void shard_clean_exit(void);

/* For the files of this folder. */

/** shard_get - the shard of a descriptor, proven to be the same socket; NULL: not ours (any more) */
struct shard *shard_get(const struct sys *sys, int fd);

/** shard_put - done with it */
void shard_put(const struct sys *sys, struct shard *s);

/** shard_forget - take a descriptor off the table; the last one leaves the group */
void shard_forget(const struct sys *sys, int fd);

/** shard_examine - the address as we compare it; false: not a kind of socket that we share */
bool shard_examine(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                   struct addr *ret);

/** shard_make - for a socket that is not in the table yet; NULL without memory */
struct shard *shard_make(const struct sys *sys, int fd, const struct addr *a);

/** shard_discard - one that never came into the table */
void shard_discard(const struct sys *sys, struct shard *s);

/** shard_family_has_accepted - this process from any listener, or its family from one of ours */
bool shard_family_has_accepted(void);

#endif

/* What /proc says about the descriptors and locks of this process. No malloc, no stdio. */
#ifndef SOCKSHARD_CORE_FDINFO_H
#define SOCKSHARD_CORE_FDINFO_H

#include <stdbool.h>
#include <stdint.h>

#include "../sys/sys.h"

/**
 * fdinfo_each - every descriptor of this process
 * @visit: called with each number; what it opens itself may be among them
 *
 * Where there is no /proc: the numbers below 256, open or not. Returns 0, or 1 without /proc.
 */
int fdinfo_each(const struct sys *sys, void (*visit)(const struct sys *sys, int fd, void *arg),
                void *arg);

/* One line of an epoll instance, see proc(5). */
struct fdinfo_watch {
	int epfd, fd;
	uint32_t events;
	uint64_t data;
	uint64_t inode; /* of what fd was when it was registered; 0: an old kernel does not say */
};

struct fdinfo_visitor {
	/** watch - a registration with an epoll instance that this process can use */
	void (*watch)(const struct fdinfo_watch *w, void *arg);
	/** lock - a POSIX record lock, with the process that took it */
	void (*lock)(int pid, void *arg);
	void *arg;
};

/** fdinfo_visit - the registrations and locks of this process; -errno where /proc does not say */
int fdinfo_visit(const struct sys *sys, const struct fdinfo_visitor *visitor);

/**
 * fdinfo_holds_semaphore - has this process taken a semaphore of System V down to nothing?
 *
 * As far as it may read them. false where /proc does not say.
 */
bool fdinfo_holds_semaphore(const struct sys *sys);

#endif

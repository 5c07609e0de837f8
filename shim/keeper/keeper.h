/* The keeper process. */
#ifndef SOCKSHARD_KEEPER_KEEPER_H
#define SOCKSHARD_KEEPER_KEEPER_H

struct keeper_options {
	const char *name; /* abstract unix name, or NULL: the first free sockshard/UID/k */
	int ready_fd;     /* closed when it listens; -1: none */
	int idle_ms;      /* ends after so long without a socket and a client */
};

/** keeper_main - run until idle or SIGTERM; returns the exit status */
int keeper_main(const struct keeper_options *options);

#endif

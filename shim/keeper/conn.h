/* Connections to the keeper: admitted, heard, answered exactly once, ended. */
#ifndef SOCKSHARD_KEEPER_CONN_H
#define SOCKSHARD_KEEPER_CONN_H

#include "state.h"

/* What an epoll event is about: the upper half of its 64 bits; the lower is a connection's number. */
enum conn_event { EVENT_ACCEPT, EVENT_CONN, EVENT_PROCESS, EVENT_VAULT };

/** conn_watch_fd - hear of it; once more does no harm. 0 or -errno */
int conn_watch_fd(struct keeper *k, int fd, enum conn_event kind, int conn);

/** conn_admit - a connection just accepted: 0; -errno: refused, the caller closes it */
int conn_admit(struct keeper *k, int fd);

/** conn_receive - handle the request that waits, or the end of the connection */
void conn_receive(struct keeper *k, int conn);

/** conn_is_repeated - did a worker die while it handled the request that is being handled */
bool conn_is_repeated(const struct keeper *k);

/** conn_end - close it from our side */
void conn_end(struct keeper *k, int conn);

/** conn_forget - one that has ended, and whose process lives, but has another in its place now */
void conn_forget(struct keeper *k, int conn);

/** conn_disown_all - a held socket has no owner among the connections any more */
void conn_disown_all(struct keeper *k, int member);

/** conn_process_ended - of the process behind it; nothing when it is not true */
void conn_process_ended(struct keeper *k, int conn);

/** conn_prove - after a worker's end: descriptors that are not what they were are forgotten */
void conn_prove(struct keeper *k, int conn);

/** conn_restore - then: what ended while the last worker dealt with it is ended now, the rest heard */
void conn_restore(struct keeper *k, int conn);

#endif

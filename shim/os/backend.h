/* What the backends share: option calls with -errno, and operations a system does not have. */
#ifndef SOCKSHARD_OS_BACKEND_H
#define SOCKSHARD_OS_BACKEND_H

#include "os.h"

/** backend_set - setsockopt(SOL_SOCKET, name) to 0 or 1; 0 or -errno */
int backend_set(const struct sys *sys, int fd, int name, bool on);

/** backend_is_set - 1, 0 or -errno; a system that does not know the option has it off */
int backend_is_set(const struct sys *sys, int fd, int name);

/** backend_why - write a reason, cut at OS_WHY_MAX; returns -ENOTSUP */
int backend_why(char why[OS_WHY_MAX], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/** backend_refuse_share - share() of a system that cannot balance at all: -ENOTSUP and why */
int backend_refuse_share(const struct os *os, const struct addr *addr, char why[OS_WHY_MAX]);

/* Operations of a system that lacks them: -ENOTSUP, nothing else. */
int backend_no_attach(const struct sys *sys, int fd, const void *program, unsigned n);
int backend_no_cookie(const struct sys *sys, int fd, uint64_t *ret_cookie);
int backend_no_queue(const struct sys *sys, int fd, unsigned *ret_waiting, unsigned *ret_backlog);
int backend_no_listeners_open(void);
int backend_no_listeners(int diag_fd, uint8_t proto, uint16_t port, struct os_listener *ret,
			 size_t max);
int backend_no_accepted(int diag_fd, uint8_t family, uint16_t port, struct os_listener *ret, size_t max);
int backend_no_connections(int diag_fd, uint16_t port, struct os_listener *ret, size_t max);
void backend_no_unshare(const struct sys *sys, int fd, const struct addr *addr, bool had_port,
			bool had_addr);

/* The fields of a system whose kernel neither takes a program nor tells what it has. */
#define BACKEND_NO_VIEW                                                                            \
	.attach = backend_no_attach, .cookie = backend_no_cookie, .queue = backend_no_queue,       \
	.listeners_open = backend_no_listeners_open, .listeners = backend_no_listeners,            \
	.accepted = backend_no_accepted, .half_open = backend_no_connections

#endif

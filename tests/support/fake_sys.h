/* A struct sys that does nothing: every call fails the running cmocka test unless it was expected.
 * Each member checks one argument and then takes its result:
 *
 *   setsockopt, bind, listen, connect, shutdown, close, close_range, getsockname
 *       one will_return(): 0, or the errno to fail with
 *   getsockopt
 *       one will_return(): 0 or the errno; after 0 the pointer and the size of the value
 *   socket, accept, accept4, dup, dup2, dup3, fcntl, sendmsg, recvmsg, poll, syscall
 *       one will_return(): the result, or -errno
 *
 * Checked: name of setsockopt and getsockopt, domain of socket, number of syscall, cmd of fcntl, n
 * of poll, first of close_range, else fd. So: expect_value(fake_setsockopt, name, SO_REUSEPORT);
 * will_return(fake_setsockopt, ENOPROTOOPT). */
#ifndef SOCKSHARD_TESTS_FAKE_SYS_H
#define SOCKSHARD_TESTS_FAKE_SYS_H

#include "../../shim/sys/sys.h"

extern const struct sys fake;

/* Every setsockopt() since fake_reset(), in order, failed ones too. */
struct fake_option {
	int fd, level, name;
	int value; /* the first four bytes */
	socklen_t len;
	struct {
		unsigned short len;
		void *filter;
	} program; /* when len is that of a struct sock_fprog */
};

#define FAKE_OPTIONS_MAX 16

extern struct fake_option fake_options[FAKE_OPTIONS_MAX];
extern unsigned fake_n_options;

/** fake_reset - forget fake_options and the address that getsockname gives */
void fake_reset(void);

/** fake_set_name - what a getsockname() that succeeds gives; copied */
void fake_set_name(const struct sockaddr *addr, socklen_t len);

/** fake_will_set - expect one setsockopt(name) that fails with error, or succeeds when it is 0 */
void fake_will_set(int name, int error);

/** fake_will_get - expect one getsockopt(name) that gives len bytes of value, which must stay alive
 */
void fake_will_get(int name, const void *value, socklen_t len);

/** fake_will_get_error - expect one getsockopt(name) that fails */
void fake_will_get_error(int name, int error);

/* The members, for expect_value() and will_return(). */
int fake_socket(int domain, int type, int protocol);
int fake_bind(int fd, const struct sockaddr *addr, socklen_t len);
int fake_listen(int fd, int backlog);
int fake_accept(int fd, struct sockaddr *addr, socklen_t *len);
int fake_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int fake_connect(int fd, const struct sockaddr *addr, socklen_t len);
int fake_shutdown(int fd, int how);
int fake_close(int fd);
int fake_close_range(unsigned int first, unsigned int last, int flags);
int fake_dup(int fd);
int fake_dup2(int fd, int fd2);
int fake_dup3(int fd, int fd2, int flags);
int fake_fcntl(int fd, int cmd, ...);
int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int fake_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
ssize_t fake_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t fake_recvmsg(int fd, struct msghdr *msg, int flags);
int fake_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
long fake_syscall(long number, ...);

#endif

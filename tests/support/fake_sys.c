/* See fake_sys.h. */
#include "fake_sys.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct fake_option fake_options[FAKE_OPTIONS_MAX];
unsigned fake_n_options;

static struct sockaddr_storage name_of_all;
static socklen_t name_len;

void fake_reset(void)
{
	memset(fake_options, 0, sizeof(fake_options));
	fake_n_options = 0;
	name_len = 0;
}

void fake_set_name(const struct sockaddr *addr, socklen_t len)
{
	assert_in_range(len, 1, sizeof(name_of_all));
	memcpy(&name_of_all, addr, len);
	name_len = len;
}

void fake_will_set(int name, int error)
{
	expect_value(fake_setsockopt, name, name);
	will_return(fake_setsockopt, error);
}

void fake_will_get(int name, const void *value, socklen_t len)
{
	expect_value(fake_getsockopt, name, name);
	will_return(fake_getsockopt, 0);
	will_return(fake_getsockopt, value);
	will_return(fake_getsockopt, len);
}

void fake_will_get_error(int name, int error)
{
	expect_value(fake_getsockopt, name, name);
	will_return(fake_getsockopt, error);
}

/* An errno, or 0 for success. */
static int status(int error)
{
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

/* A result, or -errno. */
static long result(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

int fake_socket(int domain, int type, int protocol)
{
	(void)type;
	(void)protocol;
	check_expected(domain);
	return (int)result(mock_type(int));
}

int fake_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)addr;
	(void)len;
	check_expected(fd);
	return status(mock_type(int));
}

int fake_listen(int fd, int backlog)
{
	(void)backlog;
	check_expected(fd);
	return status(mock_type(int));
}

int fake_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	(void)addr;
	(void)len;
	check_expected(fd);
	return (int)result(mock_type(int));
}

int fake_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	(void)addr;
	(void)len;
	(void)flags;
	check_expected(fd);
	return (int)result(mock_type(int));
}

int fake_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)addr;
	(void)len;
	check_expected(fd);
	return status(mock_type(int));
}

int fake_shutdown(int fd, int how)
{
	(void)how;
	check_expected(fd);
	return status(mock_type(int));
}

int fake_close(int fd)
{
	check_expected(fd);
	return status(mock_type(int));
}

int fake_close_range(unsigned int first, unsigned int last, int flags)
{
	(void)last;
	(void)flags;
	check_expected(first);
	return status(mock_type(int));
}

int fake_dup(int fd)
{
	check_expected(fd);
	return (int)result(mock_type(int));
}

int fake_dup2(int fd, int fd2)
{
	(void)fd2;
	check_expected(fd);
	return (int)result(mock_type(int));
}

int fake_dup3(int fd, int fd2, int flags)
{
	(void)fd2;
	(void)flags;
	check_expected(fd);
	return (int)result(mock_type(int));
}

int fake_fcntl(int fd, int cmd, ...)
{
	(void)fd;
	check_expected(cmd);
	return (int)result(mock_type(int));
}

static void record_option(int fd, int level, int name, const void *value, socklen_t len)
{
	struct fake_option *o;

	assert_in_range(fake_n_options, 0, FAKE_OPTIONS_MAX - 1);
	o = &fake_options[fake_n_options++];
	*o = (struct fake_option){.fd = fd, .level = level, .name = name, .len = len};
	if (value && len >= sizeof(o->value))
		memcpy(&o->value, value, sizeof(o->value));
	if (value && len == sizeof(o->program))
		memcpy(&o->program, value, sizeof(o->program));
}

int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	check_expected(name);
	record_option(fd, level, name, value, len);
	return status(mock_type(int));
}

int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	const void *given;
	socklen_t given_len;
	int error;

	(void)fd;
	(void)level;
	check_expected(name);
	error = mock_type(int);
	if (error)
		return status(error);
	given = mock_ptr_type(const void *);
	given_len = mock_type(socklen_t);
	if (given_len < *len) /* longer than the room: cut, as the kernel does */
		*len = given_len;
	memcpy(value, given, *len);
	return 0;
}

int fake_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	int error;

	check_expected(fd);
	error = mock_type(int);
	if (error)
		return status(error);
	memcpy(addr, &name_of_all, *len < name_len ? *len : name_len);
	*len = name_len;
	return 0;
}

ssize_t fake_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	(void)msg;
	(void)flags;
	check_expected(fd);
	return result(mock_type(int));
}

ssize_t fake_recvmsg(int fd, struct msghdr *msg, int flags)
{
	(void)msg;
	(void)flags;
	check_expected(fd);
	return result(mock_type(int));
}

int fake_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	(void)fds;
	(void)timeout_ms;
	check_expected(n);
	return (int)result(mock_type(int));
}

long fake_syscall(long number, ...)
{
	check_expected(number);
	return result(mock_type(long));
}

const struct sys fake = {
	.socket = fake_socket,
	.bind = fake_bind,
	.listen = fake_listen,
	.accept = fake_accept,
	.accept4 = fake_accept4,
	.connect = fake_connect,
	.shutdown = fake_shutdown,
	.close = fake_close,
	.close_range = fake_close_range,
	.dup = fake_dup,
	.dup2 = fake_dup2,
	.dup3 = fake_dup3,
	.fcntl = fake_fcntl,
	.setsockopt = fake_setsockopt,
	.getsockopt = fake_getsockopt,
	.getsockname = fake_getsockname,
	.sendmsg = fake_sendmsg,
	.recvmsg = fake_recvmsg,
	.poll = fake_poll,
	.syscall = fake_syscall,
};

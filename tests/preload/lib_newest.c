/* A system that takes SO_REUSEPORT and gives everything to the newest listener, to be preloaded into
 * what binds several in one process: each listen makes the kernel choose that one by a program, and
 * nobody else's programs are taken. UDP alike, at bind. */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif

static int real_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	static int (*next)(int, int, int, const void *, socklen_t);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "setsockopt");
	return next(fd, level, name, value, len);
}

/* The n-th socket of a port in a row has index n - 1. */
static void choose(int fd)
{
	static unsigned short port;
	static unsigned n;
	struct sockaddr_in6 name; /* the port is where sockaddr_in has it */
	socklen_t len = sizeof(name);
	struct sock_filter newest = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {1, &newest};

	if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
		return;
	n = name.sin6_port == port ? n + 1 : 1;
	port = name.sin6_port;
	newest.k = n - 1;
	real_setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program));
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (level == SOL_SOCKET && name == SO_ATTACH_REUSEPORT_CBPF) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return real_setsockopt(fd, level, name, value, len);
}

int listen(int fd, int backlog)
{
	static int (*next)(int, int);
	int r;

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "listen");
	r = next(fd, backlog);
	if (r == 0)
		choose(fd);
	return r;
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	static int (*next)(int, const struct sockaddr *, socklen_t);
	int type = 0, r;
	socklen_t size = sizeof(type);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "bind");
	r = next(fd, addr, len);
	if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM)
		choose(fd);
	return r;
}

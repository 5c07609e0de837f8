/* A kernel without sock_diag, to be preloaded into the keeper. */
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

int socket(int domain, int type, int protocol)
{
	static int (*next)(int, int, int);

	if (domain == AF_NETLINK) {
		errno = EPROTONOSUPPORT;
		return -1;
	}
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "socket");
	return next(domain, type, protocol);
}

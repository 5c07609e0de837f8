/* A library above ours: the client's port of every connection that the server itself has been handed, a
 * line each, with the time (ns of CLOCK_MONOTONIC), in the file that $ACCEPTED names. Signals wait
 * meanwhile where the accept cannot, so that none is missed that the server's own handler ends. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char path[256]; /* opened each time: servers close what they do not know */
static int (*next_accept)(int fd, struct sockaddr *addr, socklen_t *len);
static int (*next_accept4)(int fd, struct sockaddr *addr, socklen_t *len, int flags);

__attribute__((constructor)) static void begin(void)
{
	const char *named = getenv("ACCEPTED");

	(void)snprintf(path, sizeof(path), "%s", named ? named : "");
	*(void **)&next_accept = dlsym(RTLD_NEXT, "accept");
	*(void **)&next_accept4 = dlsym(RTLD_NEXT, "accept4");
}

static void note(int fd)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	struct timespec ts;
	char line[48];
	int n, to;

	if (getpeername(fd, (struct sockaddr *)&peer, &len) == -1 || peer.sin_family != AF_INET)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	n = snprintf(line, sizeof(line), "%d %lld%09ld\n", ntohs(peer.sin_port), (long long)ts.tv_sec,
	             ts.tv_nsec);
	to = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (to == -1 || write(to, line, (size_t)n) != n)
		abort();
	close(to);
}

static int accept_noted(int fd, struct sockaddr *addr, socklen_t *len, const int *flags)
{
	int status = fcntl(fd, F_GETFL), r, error;
	bool masked = status != -1 && (status & O_NONBLOCK);
	sigset_t all, mask;

	sigfillset(&all);
	if (masked)
		(void)pthread_sigmask(SIG_BLOCK, &all, &mask);
	r = flags ? next_accept4(fd, addr, len, *flags) : next_accept(fd, addr, len);
	error = errno;
	if (r >= 0 && path[0])
		note(r);
	if (masked)
		(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
	errno = error;
	return r;
}

int accept(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	return accept_noted(fd, addr, len, NULL);
}

int accept4(int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags)
{
	return accept_noted(fd, addr, len, &flags);
}

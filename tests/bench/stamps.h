/* When a connection was accepted, in a file that bench.py reads: 64-bit words only. */
#ifndef SOCKSHARD_TESTS_STAMPS_H
#define SOCKSHARD_TESTS_STAMPS_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STAMPS_MAX 65536

struct stamps {
	_Atomic uint64_t n;
	struct {
		uint64_t at_ns; /* CLOCK_MONOTONIC, after the call */
		uint64_t port;	/* the client's */
	} entry[STAMPS_MAX];
};

/* NULL: no such file, and nothing is noted. */
static inline struct stamps *stamps_open(const char *path)
{
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return NULL;
	p = mmap(NULL, sizeof(struct stamps), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static inline void stamps_note(struct stamps *s, int fd)
{
	struct sockaddr_in peer = {.sin_port = 0};
	socklen_t len = sizeof(peer);
	struct timespec ts;
	uint64_t i;

	if (!s)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0 || peer.sin_family != AF_INET)
		return;
	i = atomic_load(&s->n);
	if (i == STAMPS_MAX)
		return;
	s->entry[i].at_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	s->entry[i].port = ntohs(peer.sin_port);
	atomic_store(&s->n, i + 1);
}

#endif

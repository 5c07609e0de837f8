/* Preloaded into the keeper: notes when which steering program came into force, in the file that
 * BENCH_ATTACH names. */
#include <fcntl.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "attach.h"

static struct attach_log *attach_log;
static uint64_t woke_ns;

__attribute__((constructor)) static void open_log(void)
{
	const char *path = getenv("BENCH_ATTACH");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*attach_log), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		attach_log = p;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void note(const struct sock_fprog *program)
{
	uint64_t n = atomic_load(&attach_log->n), at = now_ns();
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	if (n == ATTACH_MAX)
		return;
	for (unsigned i = 0; i < program->len; i++) {
		const struct sock_filter *f = &program->filter[i];

		hash = (hash ^ f->code ^ (uint64_t)f->jt << 16 ^ (uint64_t)f->jf << 24 ^
			(uint64_t)f->k << 32) *
		       1099511628211u;
	}
	attach_log->entry[n].at_ns = at;
	attach_log->entry[n].woke_ns = woke_ns;
	attach_log->entry[n].hash = hash;
	attach_log->entry[n].instructions = program->len;
	atomic_store(&attach_log->n, n + 1);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int r = (int)syscall(SYS_setsockopt, fd, level, name, value, len);

	if (r == 0 && attach_log && level == SOL_SOCKET && name == SO_ATTACH_REUSEPORT_CBPF)
		note(value);
	return r;
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout_ms, const sigset_t *mask)
{
	int r = (int)syscall(SYS_epoll_pwait, fd, events, max, timeout_ms, mask, 8);

	woke_ns = now_ns();
	return r;
}

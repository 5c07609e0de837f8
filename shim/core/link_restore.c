/* After a keeper's end: from the next accept on, with the keeper that is there then. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard_parts.h"

int64_t link_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A copy, so that the new keeper and we never write to one page. */
static int legacy_of(const struct wire_page *page)
{
	int fd = memfd_create("sockshard-legacy", MFD_CLOEXEC);

	if (fd == -1)
		return -errno;
	if (write(fd, &page->legacy, sizeof(page->legacy)) != (ssize_t)sizeof(page->legacy)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

int link_rejoin(const struct sys *sys, struct shard *s, int fd, bool legacy)
{
	struct wire_page *old = s->counter;
	struct wire_packet p;
	int left = legacy ? legacy_of(old) : -1, r;

	if (legacy && left < 0)
		return left;
	r = link_reserve(sys, s, true);
	if (r == 0) {
		memset(&p, 0, sizeof(p));
		p.head.type = WIRE_REJOIN;
		p.body.rejoin.addr = s->addr;
		p.body.rejoin.cookie = s->cookie;
		p.body.rejoin.accepted = atomic_load(&old->word) >> 32;
		p.body.rejoin.order = atomic_load(&old->order);
		p.fds[0] = fd;
		p.fds[1] = left;
		p.n_fds = legacy ? 2 : 1;
		r = link_ask(sys, s, &p);
		wire_close_fds(sys, &p);
		if (r < 0) {
			link_unmap_counter(s);
			s->counter = old;
		}
	}
	if (left >= 0)
		sys->close(left);
	if (r == 0)
		memcpy(s->token, p.body.joined.token, sizeof(s->token));
	return r;
}

int link_restore(const struct sys *sys, struct shard *s, int fd)
{
	int r;

	if (!link_is_lost(sys, s))
		return 0;
	if (atomic_load(&init_sandboxed) || s->state != SHARD_JOINED)
		return -EPERM;
	r = shard_reclaim(sys, s, fd);
	if (r < 0 && r != -EAGAIN)
		log_debug("the keeper cannot be reached: %s", strerror(-r));
	return r;
}

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

#define LINK_PATIENCE_MS (2 * (KEEPER_START_MS + KEEPER_DEADLINE_MS))

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

/* One thread at a time: of two connections of one socket the first would be nobody's. */
static bool begin(struct shard *s, int64_t now)
{
	bool due;

	fdtab_lock();
	due = now >= s->retry_at;
	if (due)
		s->retry_at = now + LINK_PATIENCE_MS;
	fdtab_unlock();
	return due;
}

int link_restore(const struct sys *sys, struct shard *s, int fd)
{
	int64_t start, end;
	int r;

	if (atomic_load(&init_sandboxed) || s->state != SHARD_JOINED)
		return -EPERM;
	start = link_now_ms();
	if (!begin(s, start))
		return -EAGAIN;
	link_close(sys, s);
	r = shard_reclaim(sys, s, fd);
	end = link_now_ms();
	s->retry_at = r == 0 ? 0 : end + LINK_RETRY_MS + LINK_COST_FACTOR * (end - start);
	if (r < 0)
		log_debug("the keeper cannot be reached: %s", strerror(-r));
	else
		log_info("fd %d: the keeper is there again", fd);
	return r;
}

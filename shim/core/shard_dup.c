/* One socket, several numbers; and the preload's own numbers, which the server may want. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static void add_number(const struct sys *sys, int fd, int copy)
{
	struct shard *s = shard_get(sys, fd);
	uintptr_t mark;

	fdtab_lock();
	if (!s) {
		mark = fdtab_peek(fd);
		if (mark == FDTAB_CLAIM || mark == FDTAB_FOREIGN)
			fdtab_tag(copy, mark);
		fdtab_unlock();
		return;
	}
	if (fdtab_add(copy, s, fdtab_mark_of(s)) == 0)
		s->fds++;
	else
		log_warn("out of memory: fd %d is not looked after", copy);
	fdtab_unlock();
	shard_put(sys, s);
}

static int made(const struct sys *sys, int fd, int copy)
{
	if (copy == -1)
		return -errno;
	if (fdtab_peek(copy) != FDTAB_NOT_OURS)
		shard_forget(sys, copy); /* its number was closed without our seeing it */
	add_number(sys, fd, copy);
	return copy;
}

/* Is it a number that the server never opened? */
static bool is_internal(const struct sys *sys, int fd)
{
	return fdtab_peek(fd) == FDTAB_INTERNAL && link_is_internal(sys, fd);
}

int shard_dup(const struct sys *sys, int fd)
{
	int r;

	if (init_is_self() && is_internal(sys, fd))
		return -EBADF;
	r = sys->dup(fd);
	if (!init_is_self())
		return r == -1 ? -errno : r;
	return made(sys, fd, r);
}

int shard_fcntl_dup(const struct sys *sys, int fd, int cmd, int from)
{
	int r;

	if (!init_is_self()) {
		r = sys->fcntl(fd, cmd, from);
		return r == -1 ? -errno : r;
	}
	if (is_internal(sys, fd))
		return -EBADF;
	return made(sys, fd, sys->fcntl(fd, cmd, from));
}

/* The server wants a number that we use: it was free when it looked. */
static void give_up_number(const struct sys *sys, int fd)
{
	int moved = sys->fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);

	fdtab_lock();
	link_renumber(fd, moved);
	fdtab_remove(fd);
	if (moved >= 0)
		(void)fdtab_add_internal(moved);
	fdtab_unlock();
}

static int dup_onto(const struct sys *sys, int fd, int fd2, int flags, bool is_dup3)
{
	struct shard *over = NULL;
	int r;

	if (init_is_self()) {
		if (is_internal(sys, fd))
			return -EBADF;
		if (fd != fd2 && is_internal(sys, fd2) && sys->fcntl(fd, F_GETFD) != -1)
			give_up_number(sys, fd2);
		else if (fd != fd2 && fdtab_peek(fd2) != FDTAB_NOT_OURS)
			over = shard_get(sys, fd2);
	}
	r = is_dup3 ? sys->dup3(fd, fd2, flags) : sys->dup2(fd, fd2);
	r = r == -1 ? -errno : r;
	if (over)
		shard_put(sys, over);
	if (r < 0 || fd == fd2 || !init_is_self())
		return r;
	return made(sys, fd, fd2);
}

int shard_dup2(const struct sys *sys, int fd, int fd2)
{
	return dup_onto(sys, fd, fd2, 0, false);
}

int shard_dup3(const struct sys *sys, int fd, int fd2, int flags)
{
	return dup_onto(sys, fd, fd2, flags, true);
}

static int real_close_range(const struct sys *sys, unsigned int first, unsigned int last, int flags)
{
	if (first > last)
		return 0;
	return sys->close_range(first, last, flags) == -1 ? -errno : 0;
}

int shard_close_range(const struct sys *sys, unsigned int first, unsigned int last, int flags)
{
	unsigned int from = first;
	int r, fd;

	/* CLOEXEC closes nothing now, and all of ours are close-on-exec already. */
	if (!init_is_self() || first > last || first > INT_MAX || (flags & (int)CLOSE_RANGE_CLOEXEC))
		return sys->close_range(first, last, flags) == -1 ? -errno : 0;
	for (;;) {
		fdtab_lock();
		fd = fdtab_next((int)from, false);
		fdtab_unlock();
		if (fd < 0 || (unsigned int)fd > last)
			break;
		(void)shard_close(sys, fd);
		from = (unsigned int)fd + 1;
	}
	fdtab_lock();
	fdtab_untag(first, last);
	fdtab_unlock();
	/* Around the preload's own. */
	for (from = first; from <= INT_MAX; from = (unsigned int)fd + 1) {
		fdtab_lock();
		fd = fdtab_next((int)from, true);
		fdtab_unlock();
		if (fd < 0 || (unsigned int)fd > last)
			break;
		if (!link_is_internal(sys, fd))
			(void)sys->close(fd);
		if ((unsigned int)fd > from) {
			r = real_close_range(sys, from, (unsigned int)fd - 1, flags);
			if (r < 0)
				return r;
		}
	}
	return real_close_range(sys, from, last, flags);
}

void shard_close_each(const struct sys *sys, unsigned int first)
{
	struct rlimit l;
	unsigned int end = 65536;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < end)
		end = (unsigned int)l.rlim_cur;
	for (unsigned int fd = first; fd < end; fd++)
		if (fdtab_peek((int)fd) == FDTAB_NOT_OURS)
			(void)sys->close((int)fd);
		else
			(void)shard_close(sys, (int)fd);
}

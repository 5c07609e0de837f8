/* See check_watch.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../os/os.h"
#include "check_watch.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* Linux 5.19 */
#endif

/* AUDIT_ARCH_*, linux/audit.h: the ELF machine and two flags. */
#define ARCH_64	    0x80000000u
#define ARCH_LITTLE 0x40000000u

#define BATCH	   16
#define POLLED_MAX 1024 /* descriptors of one poll or select that are looked at */

static const int calls[] = {
#ifdef __NR_fork
	__NR_fork,
#endif
#ifdef __NR_vfork
	__NR_vfork,
#endif
#ifdef __NR_poll
	__NR_poll,
#endif
#ifdef __NR_select
	__NR_select,
#endif
#ifdef __NR_clone3
	__NR_clone3,
#endif
#ifdef __NR_accept
	__NR_accept,
#endif
	__NR_bind,   __NR_accept4,  __NR_epoll_ctl,	 __NR_ppoll,
	__NR_clone,  __NR_pselect6, __NR_io_uring_setup,
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

int check_watch_install(const struct elf_info *library)
{
	struct sock_filter program[5 + CALLS];
	struct sock_fprog fprog = {.filter = program};
	uint32_t arch = library->machine | (library->bits == 64 ? ARCH_64 : 0) |
			(library->big_endian ? 0 : ARCH_LITTLE);
	unsigned n = 0;
	size_t i;
	long fd;

	program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						    offsetof(struct seccomp_data, arch));
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arch, 0, CALLS + 1);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						    offsetof(struct seccomp_data, nr));
	for (i = 0; i < CALLS; i++)
		program[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], (uint8_t)(CALLS - i), 0);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	fprog.len = (unsigned short)n;
	/* With the second flag a signal does not interrupt a call while we look at it. */
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		     &fprog);
	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			     &fprog);
	return fd < 0 ? -errno : (int)fd;
}

int check_watch_fetch(pid_t pid, int fd)
{
	long pidfd = syscall(SYS_pidfd_open, pid, 0), copy;
	int e;

	if (pidfd < 0)
		return -errno;
	copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	e = errno;
	close((int)pidfd);
	return copy < 0 ? -e : (int)copy;
}

/* One thread that stands in a call. */
struct caller {
	pid_t tid;
	struct check_dry *d;
	struct check_dry_process *process;
};

/* Who it is, by /proc/TID/status. */
static bool identify(struct caller *c)
{
	char path[40], line[128], name[16] = "";
	int pid = 0, parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", c->tid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL && parent == 0) {
		if (strncmp(line, "Name:\t", 6) == 0)
			snprintf(name, sizeof(name), "%.*s", (int)strcspn(line + 6, "\n"),
				 line + 6);
		else if (strncmp(line, "Tgid:\t", 6) == 0)
			pid = atoi(line + 6); /* written by the kernel */
		else if (strncmp(line, "PPid:\t", 6) == 0)
			parent = atoi(line + 6);
	}
	if (f != NULL)
		fclose(f);
	c->process = pid != 0 ? check_dry_process(c->d, pid) : NULL;
	if (c->process == NULL)
		return false;
	c->process->parent = parent;
	memcpy(c->process->name, name, sizeof(name));
	return true;
}

static bool copy_in(const struct caller *c, void *to, uint64_t from, size_t n)
{
	struct iovec here = {to, n};
	struct iovec there = {NULL, n};

	memcpy(&there.iov_base, &from, sizeof(there.iov_base));
	return process_vm_readv(c->tid, &here, 1, &there, 1, 0) == (ssize_t)n;
}

/* The inode of a socket; 0: it is none. */
static uint64_t inode_of(const struct caller *c, int fd)
{
	char path[64], link[64];
	unsigned long long inode;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", c->tid, fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return 0;
	link[n] = '\0';
	return sscanf(link, "socket:[%llu]", &inode) == 1 ? inode : 0;
}

static int get(int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, name, &value, &len) == 0 ? value : -1;
}

/* The protocol of a socket of the kind that sockshard knows, into addr; v6only too. */
static bool kind_of(int fd, struct addr *addr)
{
	int type = get(fd, SOL_SOCKET, SO_TYPE), proto = get(fd, SOL_SOCKET, SO_PROTOCOL);

	if (!(type == SOCK_STREAM && proto == IPPROTO_TCP) &&
	    !(type == SOCK_DGRAM && proto == IPPROTO_UDP))
		return false;
	addr->proto = (uint8_t)proto;
	if (addr->family == AF_INET6 && get(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 1)
		addr->v6only = 1;
	return true;
}

static void saw_bind(const struct caller *c, const struct seccomp_data *data)
{
	struct sockaddr_storage ss;
	size_t len = (size_t)data->args[2];
	uint64_t inode = inode_of(c, (int)data->args[0]);
	struct addr addr;
	int fd;

	if (inode == 0 || len > sizeof(ss) || !copy_in(c, &ss, data->args[1], len) ||
	    addr_from_sockaddr((struct sockaddr *)&ss, (socklen_t)len, &addr) < 0)
		return;
	fd = check_watch_fetch(c->process->pid, (int)data->args[0]);
	if (fd < 0)
		return;
	if (kind_of(fd, &addr))
		check_dry_bind(c->d, c->process->pid, inode, &addr);
	close(fd);
}

/* A socket that nobody was seen to bind: one that the keeper made listens already. */
static bool learn(const struct caller *c, int number, uint64_t inode)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr addr;
	bool found;
	int fd = check_watch_fetch(c->process->pid, number);

	if (fd < 0)
		return false;
	found = get(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 &&
		getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
		addr_from_sockaddr((struct sockaddr *)&ss, len, &addr) == 0 && kind_of(fd, &addr);
	close(fd);
	if (found)
		check_dry_listens(c->d, inode, &addr, 0);
	return found;
}

static void saw_use(const struct caller *c, int fd, unsigned how)
{
	uint64_t inode = fd >= 0 ? inode_of(c, fd) : 0;

	if (inode == 0)
		return;
	if (check_dry_socket(c->d, inode) != NULL || learn(c, fd, inode))
		check_dry_touch(c->d, c->process->pid, inode, how);
}

static void saw_poll(const struct caller *c, const struct seccomp_data *data)
{
	static struct pollfd fds[POLLED_MAX];
	size_t i, n = data->args[1] < POLLED_MAX ? (size_t)data->args[1] : POLLED_MAX;

	if (n == 0 || !copy_in(c, fds, data->args[0], n * sizeof(*fds)))
		return;
	for (i = 0; i < n; i++) {
		if (fds[i].events & POLLIN)
			saw_use(c, fds[i].fd, CHECK_DRY_POLL);
	}
}

static void saw_select(const struct caller *c, const struct seccomp_data *data)
{
	const size_t bits = 8 * sizeof(unsigned long);
	unsigned long set[POLLED_MAX / (8 * sizeof(unsigned long))];
	size_t i, n = data->args[0] < POLLED_MAX ? (size_t)data->args[0] : POLLED_MAX;
	size_t words = (n + bits - 1) / bits;

	if (n == 0 || data->args[1] == 0 || !copy_in(c, set, data->args[1], words * sizeof(*set)))
		return;
	for (i = 0; i < n; i++) {
		if (set[i / bits] >> (i % bits) & 1)
			saw_use(c, (int)i, CHECK_DRY_SELECT);
	}
}

/* A thread is no process. */
static void saw_clone(const struct caller *c, uint64_t flags)
{
	if (!(flags & CLONE_THREAD))
		check_dry_fork(c->d, c->process->pid, (flags & CLONE_VFORK) != 0);
}

static void examine(const struct caller *c, const struct seccomp_data *data)
{
	uint64_t flags;

	switch (data->nr) {
	case __NR_bind:
		saw_bind(c, data);
		break;
#ifdef __NR_accept
	case __NR_accept:
#endif
	case __NR_accept4:
		saw_use(c, (int)data->args[0], CHECK_DRY_ACCEPT);
		break;
	case __NR_epoll_ctl:
		if ((int)data->args[1] == EPOLL_CTL_ADD)
			saw_use(c, (int)data->args[2], CHECK_DRY_EPOLL);
		else if ((int)data->args[1] == EPOLL_CTL_DEL && (int)data->args[2] >= 0)
			check_dry_untouch(c->d, c->process->pid, inode_of(c, (int)data->args[2]),
					  CHECK_DRY_EPOLL);
		break;
#ifdef __NR_poll
	case __NR_poll:
#endif
	case __NR_ppoll:
		saw_poll(c, data);
		break;
#ifdef __NR_select
	case __NR_select:
#endif
	case __NR_pselect6:
		saw_select(c, data);
		break;
#ifdef __NR_fork
	case __NR_fork:
		saw_clone(c, 0);
		break;
#endif
#ifdef __NR_vfork
	case __NR_vfork:
		saw_clone(c, CLONE_VFORK);
		break;
#endif
	case __NR_clone:
		saw_clone(c, data->args[0]);
		break;
#ifdef __NR_clone3
	case __NR_clone3: /* struct clone_args begins with the flags */
		if (copy_in(c, &flags, data->args[0], sizeof(flags)))
			saw_clone(c, flags);
		break;
#endif
	case __NR_io_uring_setup:
		c->process->uring = true;
		break;
	default:
		break;
	}
}

/* How many of the calls that wait were fetched: at least one is there. */
static size_t fetch(int listener, struct seccomp_notif *calls_there, size_t max)
{
	struct pollfd more = {.fd = listener, .events = POLLIN};
	size_t n = 0;

	do {
		memset(&calls_there[n], 0, sizeof(*calls_there));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &calls_there[n]) != 0)
			break;
		n++;
	} while (n < max && poll(&more, 1, 0) == 1 && (more.revents & POLLIN));
	return n;
}

int check_watch_take(int listener, struct check_dry *d, pthread_mutex_t *lock)
{
	struct seccomp_notif waiting[BATCH];
	size_t i, n = fetch(listener, waiting, BATCH);

	if (n == 0)
		return -errno;
	pthread_mutex_lock(lock);
	for (i = 0; i < n; i++) {
		struct caller c = {.d = d, .tid = (pid_t)waiting[i].pid};

		/* 0: in a pid namespace that we do not see: nothing is known then */
		if (c.tid != 0 && identify(&c))
			examine(&c, &waiting[i].data);
	}
	pthread_mutex_unlock(lock);
	for (i = 0; i < n; i++) {
		struct seccomp_notif_resp answer = {.id = waiting[i].id,
						    .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer); /* it may be dead */
	}
	return 0;
}

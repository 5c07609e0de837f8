/* See check_dry.h. */
#include <netinet/in.h>
#include <string.h>

#include "check_dry.h"

struct check_dry_process *check_dry_process(struct check_dry *d, pid_t pid)
{
	struct check_dry_process *p;
	size_t i;

	for (i = 0; i < d->n_processes; i++) {
		if (d->processes[i].pid == pid)
			return &d->processes[i];
	}
	if (d->n_processes == CHECK_DRY_PROCESSES) {
		d->full = true;
		return NULL;
	}
	p = &d->processes[d->n_processes++];
	memset(p, 0, sizeof(*p));
	p->pid = pid;
	return p;
}

const struct check_dry_process *check_dry_named(const struct check_dry *d, pid_t pid)
{
	size_t i;

	for (i = 0; i < d->n_processes; i++) {
		if (d->processes[i].pid == pid)
			return &d->processes[i];
	}
	return NULL;
}

struct check_dry_socket *check_dry_socket(struct check_dry *d, uint64_t inode)
{
	size_t i;

	for (i = 0; i < d->n_sockets; i++) {
		if (d->sockets[i].inode == inode)
			return &d->sockets[i];
	}
	return NULL;
}

static struct check_dry_socket *add_socket(struct check_dry *d, uint64_t inode,
					   const struct addr *addr)
{
	struct check_dry_socket *s;

	if (d->n_sockets == CHECK_DRY_SOCKETS) {
		d->full = true;
		return NULL;
	}
	s = &d->sockets[d->n_sockets++];
	memset(s, 0, sizeof(*s));
	s->inode = inode;
	s->addr = *addr;
	return s;
}

void check_dry_bind(struct check_dry *d, pid_t pid, uint64_t inode, const struct addr *addr)
{
	struct check_dry_socket *s = check_dry_socket(d, inode);

	if (s == NULL)
		s = add_socket(d, inode, addr);
	if (s == NULL)
		return;
	s->addr = *addr;
	s->binder = pid;
	s->any_port = addr->port == 0;
	s->late = d->accepted;
}

void check_dry_listens(struct check_dry *d, uint64_t inode, const struct addr *addr,
		       unsigned waiting)
{
	struct check_dry_socket *s = check_dry_socket(d, inode);

	if (s == NULL)
		s = add_socket(d, inode, addr);
	if (s == NULL)
		return;
	s->addr.port = addr->port;
	s->listens = true;
	s->waiting = waiting;
}

void check_dry_touch(struct check_dry *d, pid_t pid, uint64_t inode, unsigned how)
{
	struct check_dry_process *p = check_dry_process(d, pid);
	struct check_dry_socket *s = check_dry_socket(d, inode);
	unsigned index;
	size_t i;

	if (p == NULL || s == NULL)
		return;
	if (how & CHECK_DRY_ACCEPT)
		p->accepts = d->accepted = true;
	index = (unsigned)(s - d->sockets);
	for (i = 0; i < d->n_touches; i++) {
		if (d->touches[i].pid == pid && d->touches[i].socket == index)
			break;
	}
	if (i == CHECK_DRY_TOUCHES) {
		d->full = true;
		return;
	}
	if (i == d->n_touches)
		d->touches[d->n_touches++] = (struct check_dry_touch){.pid = pid, .socket = index};
	d->touches[i].how |= how;
}

void check_dry_untouch(struct check_dry *d, pid_t pid, uint64_t inode, unsigned how)
{
	const struct check_dry_socket *s = check_dry_socket(d, inode);
	size_t i;

	for (i = 0; s != NULL && i < d->n_touches; i++) {
		struct check_dry_touch *t = &d->touches[i];

		if (t->pid != pid || t->socket != (unsigned)(s - d->sockets))
			continue;
		t->how &= ~how;
		if (t->how == 0)
			*t = d->touches[--d->n_touches];
		return;
	}
}

void check_dry_fork(struct check_dry *d, pid_t pid, bool spawns)
{
	struct check_dry_process *p = check_dry_process(d, pid);

	d->spawned += spawns;
	if (p == NULL || spawns)
		return;
	p->forks++;
	if (p->accepts)
		p->serving++;
}

bool check_dry_same(const struct addr *a, const struct addr *b)
{
	return a->proto == b->proto && a->family == b->family && a->port == b->port &&
	       memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

/* How a process uses the sockets of an address, all of them together; 0: not at all. */
static unsigned touches_of(const struct check_dry *d, const struct addr *addr, pid_t pid)
{
	unsigned how = 0;
	size_t i;

	for (i = 0; i < d->n_touches; i++) {
		const struct check_dry_touch *t = &d->touches[i];

		if (t->pid == pid && check_dry_same(&d->sockets[t->socket].addr, addr))
			how |= t->how;
	}
	return how;
}

/* A process that has children who accept while it itself only waits for events. */
static bool only_watches(const struct check_dry *d, const struct addr *addr, pid_t pid)
{
	size_t i;

	if (touches_of(d, addr, pid) & CHECK_DRY_ACCEPT)
		return false;
	for (i = 0; i < d->n_processes; i++) {
		const struct check_dry_process *p = &d->processes[i];

		if (p->parent == pid && p->pid != pid &&
		    (touches_of(d, addr, p->pid) & CHECK_DRY_ACCEPT))
			return true;
	}
	return false;
}

/* How many processes but the watcher use a socket. */
static size_t users_of(const struct check_dry *d, unsigned socket, pid_t watcher)
{
	size_t i, n = 0;

	for (i = 0; i < d->n_touches; i++)
		n += d->touches[i].socket == socket && d->touches[i].pid != watcher;
	return n;
}

struct use {
	size_t sockets, bound, most; /* used, of these bound by the command, most users of one */
	bool listens;
};

static struct use sockets_of(const struct check_dry *d, const struct addr *addr, pid_t watcher)
{
	struct use u = {0};
	unsigned i;

	for (i = 0; i < d->n_sockets; i++) {
		const struct check_dry_socket *s = &d->sockets[i];
		size_t users;

		if (!check_dry_same(&s->addr, addr))
			continue;
		u.listens = u.listens || s->listens || addr->proto == IPPROTO_UDP;
		users = users_of(d, i, watcher);
		u.sockets += users > 0;
		u.bound += users > 0 && s->binder != 0;
		u.most = users > u.most ? users : u.most;
	}
	return u;
}

static enum check_dry_verdict judge(const struct check_dry_summary *s, const struct use *u)
{
	if (!u->listens)
		return CHECK_DRY_SILENT;
	if (s->watcher != 0)
		return CHECK_DRY_WATCHED;
	if (s->n_pids == 0)
		return CHECK_DRY_NOBODY;
	if (s->n_pids == 1 && u->sockets < 2)
		return s->serving > 1 ? CHECK_DRY_PER_CLIENT : CHECK_DRY_ONE;
	if (u->sockets == 1)
		return CHECK_DRY_SHARED;
	if (u->most > 1)
		return CHECK_DRY_MIXED;
	return u->bound == u->sockets ? CHECK_DRY_SEVERAL : CHECK_DRY_OWN;
}

void check_dry_summary(const struct check_dry *d, const struct addr *addr,
		       struct check_dry_summary *ret)
{
	struct check_dry_summary s = {0};
	struct use u;
	size_t i;

	for (i = 0; i < d->n_sockets && s.binder == 0; i++) {
		if (check_dry_same(&d->sockets[i].addr, addr))
			s.binder = d->sockets[i].binder;
	}
	for (i = 0; i < d->n_processes; i++) {
		const struct check_dry_process *p = &d->processes[i];
		unsigned how = touches_of(d, addr, p->pid);

		s.uring = s.uring || p->uring;
		if (how == 0)
			continue;
		if (only_watches(d, addr, p->pid)) {
			s.watcher = p->pid;
			continue;
		}
		if (s.n_pids < sizeof(s.pids) / sizeof(s.pids[0]))
			s.pids[s.n_pids] = p->pid;
		s.n_pids++;
		s.how |= how;
		s.serving += p->serving;
	}
	u = sockets_of(d, addr, s.watcher);
	s.n_sockets = u.sockets;
	s.verdict = judge(&s, &u);
	*ret = s;
}

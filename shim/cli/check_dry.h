/* What was seen of a command while it ran under `check --run`: its sockets, its processes, and
 * which of these wait for or accept connections from which socket. Plain data; makes no calls. */
#ifndef SOCKSHARD_CLI_CHECK_DRY_H
#define SOCKSHARD_CLI_CHECK_DRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../util/addr.h"

#define CHECK_DRY_SOCKETS   256
#define CHECK_DRY_PROCESSES 1024
#define CHECK_DRY_TOUCHES   2048

/* How a process uses a listening socket; bits. */
#define CHECK_DRY_ACCEPT 1u
#define CHECK_DRY_EPOLL	 2u
#define CHECK_DRY_POLL	 4u
#define CHECK_DRY_SELECT 8u

struct check_dry_process {
	pid_t pid, parent; /* parent: when it was last seen */
	char name[16];
	bool accepts;	  /* it has called accept on a listener */
	bool uring;	  /* it has made an io_uring */
	unsigned forks;	  /* processes it made; those made by vfork are not counted */
	unsigned serving; /* of these, after its first accept */
};

struct check_dry_socket {
	uint64_t inode;
	struct addr addr; /* as bound; of port 0: the port it got, once that is known */
	pid_t binder;	  /* 0: nobody was seen to bind it: the keeper made it */
	bool any_port;	  /* bound to port 0 */
	bool late;	  /* bound after the first accept of the whole family */
	bool listens;
	bool visited;	  /* clients of ours were there */
	unsigned waiting; /* connections in its queue when looked last */
};

struct check_dry_touch {
	pid_t pid;
	unsigned socket; /* of sockets */
	unsigned how;	 /* CHECK_DRY_* */
};

struct check_dry {
	struct check_dry_socket sockets[CHECK_DRY_SOCKETS];
	struct check_dry_process processes[CHECK_DRY_PROCESSES];
	struct check_dry_touch touches[CHECK_DRY_TOUCHES];
	size_t n_sockets, n_processes, n_touches;
	unsigned spawned; /* processes made by vfork, to start another program */
	bool accepted;	  /* somebody has called accept */
	bool full;	  /* there was more than there is room for */
};

/** check_dry_process - the entry of a process, made when it is new; NULL: no room */
struct check_dry_process *check_dry_process(struct check_dry *d, pid_t pid);

/** check_dry_named - the entry of a process that was seen, or NULL */
const struct check_dry_process *check_dry_named(const struct check_dry *d, pid_t pid);

/** check_dry_socket - the entry of an inode, or NULL */
struct check_dry_socket *check_dry_socket(struct check_dry *d, uint64_t inode);

/** check_dry_bind - a process is about to bind a socket; the last bind of an inode counts */
void check_dry_bind(struct check_dry *d, pid_t pid, uint64_t inode, const struct addr *addr);

/** check_dry_listens - a socket was found to listen; waiting: connections in its queue */
void check_dry_listens(struct check_dry *d, uint64_t inode, const struct addr *addr,
		       unsigned waiting);

/** check_dry_touch - a process accepts from, or waits for, a socket that is known */
void check_dry_touch(struct check_dry *d, pid_t pid, uint64_t inode, unsigned how);

/** check_dry_untouch - it waits in this way no more: it may have got another socket under the number */
void check_dry_untouch(struct check_dry *d, pid_t pid, uint64_t inode, unsigned how);

/** check_dry_fork - a process makes another one; spawns: by vfork(2), to start a program */
void check_dry_fork(struct check_dry *d, pid_t pid, bool spawns);

/** check_dry_same - the same protocol, address and port; device and IPV6_V6ONLY do not count */
bool check_dry_same(const struct addr *a, const struct addr *b);

/* Who accepts at one address, and from what. */
enum check_dry_verdict {
	CHECK_DRY_SILENT,     /* it never listened */
	CHECK_DRY_NOBODY,     /* nobody has waited for connections there */
	CHECK_DRY_ONE,	      /* one process */
	CHECK_DRY_PER_CLIENT, /* one process, which makes one for each connection */
	CHECK_DRY_OWN,	      /* several, each from a socket that the keeper made or left to it */
	CHECK_DRY_SEVERAL,    /* several sockets that the server itself has bound, each with one
				 process */
	CHECK_DRY_SHARED,     /* several processes at one socket */
	CHECK_DRY_MIXED,   /* several processes, several sockets, some of them with more than one */
	CHECK_DRY_WATCHED, /* a parent waits for events, its children accept */
};

struct check_dry_summary {
	enum check_dry_verdict verdict;
	pid_t binder;	  /* who bound it first */
	pid_t watcher;	  /* WATCHED: the parent */
	pid_t pids[64];	  /* who accepts, in the order they were seen */
	size_t n_pids;	  /* all of them; pids has the first 64 */
	size_t n_sockets; /* that these use */
	unsigned how;	  /* CHECK_DRY_* of all of them */
	unsigned serving; /* processes these made since their first accept */
	bool uring;	  /* the command uses io_uring somewhere */
};

/** check_dry_summary - what was seen at an address */
void check_dry_summary(const struct check_dry *d, const struct addr *addr,
		       struct check_dry_summary *ret);

#endif

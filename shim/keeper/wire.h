/* Messages between shards, launchers, `status` and the keeper: SOCK_SEQPACKET, one message a packet,
 * the machine's own byte order (both ends are on one host). Fields are only ever appended. */
#ifndef SOCKSHARD_KEEPER_WIRE_H
#define SOCKSHARD_KEEPER_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "../sys/sys.h"
#include "../util/addr.h"

#define WIRE_MAGIC     0x31534b53u /* "SKS1" */
#define WIRE_VERSION   1u          /* spoken by this build; HELLO carries the lowest and highest */
#define WIRE_MAX       1024u       /* bytes of a packet */
#define WIRE_GROUP_MAX 64u         /* bytes of a group name with its end */
#define WIRE_FDS_MAX   2u
#define WIRE_TOKEN     16u
#define WIRE_SLOT_ANY  0xffffffffu

enum wire_type {
	WIRE_HELLO = 1,  /* first message of everybody; fd: the sender's pidfd, where there is one */
	WIRE_RESERVE,    /* shard: about to bind; reply's fd: counter page */
	WIRE_JOIN,       /* shard: fd is the socket; the keeper listens (TCP) or binds (UDP) it */
	WIRE_BOUND,      /* shard: did it itself under the keeper's grant */
	WIRE_LEAVE,      /* shard: has closed or is about to disconnect its socket */
	WIRE_CLAIM,      /* a process takes part in a held socket, proven by token or descriptor */
	WIRE_OWN_PROGRAM, /* shard: its server attached a program of its own */
	WIRE_CLEAN_EXIT, /* shard: exit(3) runs; body as LEAVE */
	WIRE_REGISTER,   /* launcher: n slots of a group are mine */
	WIRE_STOPPING,   /* launcher: what ends from now on ends on purpose */
	WIRE_GIVE_UP,    /* launcher: this slot is not restarted any more */
	WIRE_STATUS,     /* reply: LAUNCHER, GROUP, SLOT and STRANGER packets, then the reply with the end */
	WIRE_STATUS_GROUP,
	WIRE_STATUS_SLOT,
	WIRE_STATUS_STRANGER,
	WIRE_EVENT_LIVE, /* keeper to launcher: a copy of a slot has joined */
	WIRE_EVENT_GONE, /* keeper to launcher: a held socket of a slot was given up */
	WIRE_JOINED,     /* the answer to JOIN, BOUND, REJOIN and CLAIM */
	WIRE_REJOIN,     /* shard: listens since before this keeper; fds: socket, memfd of its legacy */
	WIRE_ASK,        /* shard: I accepted this connection; is it a nudge of yours? */
	WIRE_GIVEN,      /* the answer; fd: the connection that waited elsewhere */
	WIRE_TAKEN,      /* shard: the given connection is mine now */
	WIRE_WAKE,       /* launcher: copies of mine listen there since before this keeper */
	WIRE_STATUS_LAUNCHER,
	WIRE_DEAF,       /* shard: its server installs a seccomp filter: no nudges from now on */
	WIRE_TYPES
};

enum wire_key { /* the values of enum policy_key */
	WIRE_KEY_FLOW,
	WIRE_KEY_SRC,
	WIRE_KEY_CPU,
	WIRE_KEY_RANDOM,
};

enum wire_mode { /* the values of enum policy_mode, as far as they are the keeper's */
	WIRE_MODE_BALANCE,
	WIRE_MODE_SHARED,
	WIRE_MODE_HANDOVER,
};

#define WIRE_PAGE_BUCKETS 1024u
#define WIRE_NO_INDEX     0xffffu

/* What the next keeper needs to go on where one has ended. */
struct wire_legacy {
	_Atomic uint32_t version; /* odd: being written */
	uint32_t slot, generation;
	uint32_t seed;
	uint32_t buckets, sockets; /* in the table; in the kernel's group */
	uint16_t owner[WIRE_PAGE_BUCKETS], home[WIRE_PAGE_BUCKETS];
	uint16_t index_of[WIRE_PAGE_BUCKETS]; /* slot -> index; WIRE_NO_INDEX */
};


/* The page of a held TCP socket: a sealed memfd that keeper and shard both map. */
struct wire_page {
	/* Upper half: connections accepted, modulo 2^32. Lower half: a robust futex word (see
	 * set_robust_list(2)) that holds the keeper's thread id: the kernel sets WIRE_KEEPER_DIED in
	 * it when the keeper ends, however it ends. One relaxed addition by a shard counts and reads
	 * both flags. */
	_Atomic uint64_t word;
	uint64_t robust_next; /* the keeper's list node */
	struct wire_legacy legacy;
	_Atomic uint32_t claimed; /* enum wire_claimed */
	_Atomic uint64_t order;   /* of joining, in its group: the highest is the newest */
};

#define WIRE_PAGE_BYTES  8192u
#define WIRE_ONE         (UINT64_C(1) << 32)  /* one accepted connection */
#define WIRE_NUDGED      0x80000000u /* FUTEX_WAITERS: a nudge is on its way, ask about connections */
#define WIRE_KEEPER_DIED 0x40000000u /* FUTEX_OWNER_DIED */
#define WIRE_FLAGS       (WIRE_NUDGED | WIRE_KEEPER_DIED)

enum wire_role { WIRE_SHARD = 1, WIRE_LAUNCHER, WIRE_CONTROL };

enum wire_state { /* of a held socket, as `status` names it */
	WIRE_STARTING,
	WIRE_LIVE,
	WIRE_STUCK,
	WIRE_DRAINING,
	WIRE_ORPHAN,
	WIRE_EMPTY,
};

struct wire_head {
	uint32_t magic;
	uint16_t type;
	uint16_t length; /* of the whole packet, this head included */
	uint32_t seq;    /* the request's; a reply repeats it; 0 for events */
	int32_t result;  /* replies: 0 or -errno; requests: 0; events: their number, from 1: one that
	                    repeats is the same event (a worker died after it was sent) */
};

struct wire_hello { /* request and reply */
	uint32_t version_min, version_max;
	uint32_t role;
	uint32_t pid;        /* as the sender sees itself; the keeper trusts credentials first */
	char version[16];    /* "0.1.0" */
	char service[128];   /* reply: the control group that ends the keeper too, or empty */
	uint32_t vault;      /* reply: pid of the process that makes another worker; 0: none */
	uint32_t zero;
};

struct wire_reserve {
	struct addr addr;
	char group[WIRE_GROUP_MAX];
	uint32_t key;         /* enum wire_key */
	uint32_t hold_ms, stuck_ms;
	uint32_t slot;        /* wanted, or WIRE_SLOT_ANY */
	uint32_t generation;  /* 0 */
	uint32_t weight;
	uint32_t own_sharing; /* the server itself asked for sharing */
	uint32_t reuse_addr;  /* the server itself set SO_REUSEADDR */
	uint32_t rejoins;     /* it listens already: not a new server */
	uint32_t mode;        /* enum wire_mode */
	uint32_t own_program; /* rejoins: the server has attached a program of its own */
	uint32_t listened;    /* reply, mode shared: the socket of all is there; request: 0 */
};

struct wire_join { /* request */
	struct addr addr;
	uint64_t cookie;
	int32_t backlog;
	uint32_t zero;
};

struct wire_rejoin {
	struct addr addr;
	uint64_t cookie;
	uint64_t accepted; /* under the keepers before */
	uint64_t order;    /* as its page has it; 0: not known */
};

struct wire_joined { /* WIRE_JOINED */
	uint32_t slot;
	uint32_t generation;
	uint32_t steered;
	uint32_t granted; /* 1: the keeper lacks the right: do it yourself, then BOUND */
	uint32_t wanted_taken; /* 1: the slot asked for is held by a live process */
	uint8_t token[WIRE_TOKEN];
	uint32_t made;   /* 1: fds: another socket in place of the sent or claimed one; CLAIM: its page */
	int32_t why;     /* CLAIM: why it is shared all the same: -errno; 0 */
	char option[32]; /* CLAIM: the socket option that cannot be copied, or empty */
};

enum wire_want { /* of a process that holds a listening socket which others may hold too */
	WIRE_WANT_BESIDE, /* accept from the socket itself, beside whoever does so already */
	WIRE_WANT_OWN,    /* the socket if nobody accepts from it, else another one of its own */
	WIRE_WANT_HOLD,   /* it does not accept (yet), but its children may */
};

enum wire_claimed { /* word of a page: who accepts from the socket */
	WIRE_UNCLAIMED,
	WIRE_POLLED,   /* the process that joined waits for events of it, and has not accepted yet */
	WIRE_ACCEPTED, /* that process has accepted from it */
	WIRE_BY_CLAIM, /* a process that the keeper knows by its claim */
};

enum wire_leave {
	WIRE_CLOSED = 1,   /* the last descriptor of the process is closed; CLEAN_EXIT: nobody else has it */
	WIRE_INHERITED,    /* CLEAN_EXIT: a child may have it */
	WIRE_SHUT_RD,      /* the keeper is to shut it down, then reply */
	WIRE_SHUT_RDWR,
	WIRE_DISCONNECT,   /* the keeper is to connect(AF_UNSPEC) it, then reply */
	WIRE_CONNECTING,   /* UDP: the server connects it right after the reply */
};

struct wire_leave_body {
	uint32_t action; /* enum wire_leave */
	uint32_t zero;
};

struct wire_ask {
	struct addr peer, local; /* of the accepted connection; proto, v6only, ifindex 0 */
};

struct wire_given { /* GIVEN, TAKEN */
	uint32_t nudge; /* 1: it was one; close it */
	uint32_t gift;  /* number of the connection that came with it; 0: none */
};

struct wire_claim { /* all of it zero but cookie, and the socket itself: by descriptor, after an exec */
	uint8_t token[WIRE_TOKEN];
	uint64_t cookie; /* of the socket; 0: by token */
	uint32_t want;   /* enum wire_want */
	uint32_t zero;
};

struct wire_register {
	char group[WIRE_GROUP_MAX];
	uint32_t n;
	uint32_t first; /* request: the lowest that will do; reply: the slots are first .. first + n - 1 */
	uint32_t held;  /* reply: sockets of these slots that have joined already */
	uint32_t zero;
};

struct wire_slot { /* GIVE_UP, EVENT_LIVE, EVENT_GONE; WAKE: addr alone */
	uint32_t slot;
	uint32_t pid;
	struct addr addr;
};

struct wire_status_group {
	struct addr addr;
	char group[WIRE_GROUP_MAX];
	uint32_t mode, key; /* enum wire_mode, enum wire_key */
	uint32_t steered;
	uint32_t buckets;
	uint64_t lost;
	char why[128]; /* why it is not steered */
};

struct wire_status_slot { /* of the group sent last */
	uint32_t slot, pid, generation, state, weight, buckets, queue, supervised;
	uint64_t accepted, given;
	uint32_t parent; /* pid of the master whose worker the owner is; 0: nobody's */
	uint32_t owners; /* processes that accept from it, as far as known */
};

struct wire_status_stranger { /* of the group sent last */
	uint32_t pid, uid;
	uint32_t index; /* in the kernel's array, or 0xffffffff: not known */
	uint32_t zero;
	struct addr addr;
	char command[32];
};

struct wire_status_launcher { /* before the groups */
	uint32_t pid;       /* by the credentials of its connection; 0: in another pid namespace */
	uint32_t first, n;  /* its slots: first .. first + n - 1 */
	uint32_t stopping;  /* it has said STOPPING */
	uint64_t pid_space; /* inode of the pid namespace that pid belongs to; 0: not known */
	char group[WIRE_GROUP_MAX];
};

/* A packet as received: head checked, body zero-filled behind its end, descriptors close-on-exec. */
struct wire_packet {
	struct wire_head head;
	union {
		struct wire_hello hello;
		struct wire_reserve reserve;
		struct wire_join join;
		struct wire_rejoin rejoin;
		struct wire_joined joined;
		struct wire_ask ask;
		struct wire_given given;
		struct wire_claim claim;
		struct wire_leave_body leave;
		struct wire_register reg;
		struct wire_slot slot;
		struct wire_status_group group;
		struct wire_status_slot status_slot;
		struct wire_status_stranger stranger;
		struct wire_status_launcher launcher;
		uint8_t bytes[WIRE_MAX - sizeof(struct wire_head)];
	} body;
	int fds[WIRE_FDS_MAX]; /* -1: none; owned by whoever received the packet */
	unsigned n_fds;
};

/** wire_body_size - bytes of body this build knows for a type; 0 for a type without; -EPROTO */
int wire_body_size(uint16_t type);

/**
 * wire_check - is this a packet we can use
 * @bytes: what came; a body shorter than the first version's, a wrong length or magic is refused
 *
 * Returns 0 and fills head and body of *ret_packet; -EPROTO.
 */
int wire_check(const void *bytes, size_t n, struct wire_packet *ret_packet);

/** wire_send - head and body of the packet's type, with its descriptors; 0 or -errno */
int wire_send(const struct sys *sys, int fd, const struct wire_packet *packet, int flags);

/**
 * wire_receive - one packet
 * Returns 1; 0 at the end of the connection; -EPROTO for a bad one or a truncated set of descriptors
 * (all closed); -EAGAIN; -errno. The caller owns ret_packet->fds.
 */
int wire_receive(const struct sys *sys, int fd, int flags, struct wire_packet *ret_packet);

/** wire_close_fds - close what a packet brought and nobody took */
void wire_close_fds(const struct sys *sys, struct wire_packet *packet);

#endif

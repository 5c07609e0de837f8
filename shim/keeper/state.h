/* All that the keeper's worker knows, in one place: struct keeper. Plain data, fixed sizes, no
 * pointers between the parts (numbers instead), so that the next worker can go on with a copy. A
 * worker changes its own and commits; every descriptor is recorded with what it was (identity). */
#ifndef SOCKSHARD_KEEPER_STATE_H
#define SOCKSHARD_KEEPER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "../os/os.h"
#include "../steer/bucket.h"
#include "../sys/sys.h"
#include "../util/addr.h"
#include "indexmap.h"
#include "page.h"
#include "wire.h"

#define GROUPS_MAX   256
#define MEMBERS_MAX  4096
#define CONNS_MAX    8192
#define FOREIGN_MAX  256  /* connections of other users: they can only claim by token */
#define HELLO_MS     5000 /* a connection that says nothing is closed */
#define STRANGER_MS  1000 /* how often a group with strangers is listed again */
#define WATCH_MS     100  /* how often a socket without a proven owner is looked at */
#define BEQUEATHED_MS 250 /* its queue stands still so long: nobody accepts there */
#define SUSPECT_MS   5000
#define GIFTS_MAX    1024  /* taken out of queues at a time: the others wait where they are */
#define NUDGES_MAX   256
#define LATE_MS      200  /* not answered so soon: its shard may be busy, or about to end */
#define NUDGE_MS     3000 /* unanswered so long: the shard is busy or does not hear */
#define UNSEEN_MS    1000 /* and so often is looked whether it is out of the queue by now */
#define DEAF_MAX     3
#define DEAF_ALWAYS  1000000
#define EMPTY_MS     1000 /* how often a socket that nobody accepts from is looked at */
#define AWAIT_MS     3000 /* from a bind to its listen */
#define EVICT_MS     5000 /* a half-open connection may still arrive so long */
#define CLOSING_MAX  64

#define NONE (-1)
#define NEVER INT64_MAX

struct slot_stat { /* of one slot number of a group, over all generations */
	uint32_t generation;
	uint64_t accepted, given;
	int64_t home_until; /* monotonic ms: a slot that left keeps its home so long */
	bool forked;        /* a forked worker's: whoever comes next is not the one that left */
};

struct group {
	bool used;
	struct addr addr;
	char name[WIRE_GROUP_MAX];
	uint32_t mode;      /* enum wire_mode */
	uint32_t key;       /* enum wire_key */
	uint32_t cpus;      /* key=cpu: ranges of the table */
	uint64_t order;     /* of the last one that joined */
	int64_t probe_at;   /* handover.c looks again, monotonic ms; 0: at once */
	uint32_t seed;
	int32_t hold_ms;
	int32_t stuck_ms;   /* 0: never */
	int64_t look_at;    /* stuck.c looks again, monotonic ms; 0 or NEVER: not set */
	int64_t newest_at;  /* the last claim of a worker, monotonic ms; 0: there was none */
	bool reloads;       /* new workers have come beside older ones, which may be about to leave */
	bool own_sharing;   /* every shard's server asked for sharing itself */
	bool reuse_addr;    /* every shard's server set SO_REUSEADDR itself */
	bool heard;         /* one of them has asked about what it accepted */
	int held_before, closing_before; /* connections of the address when the group was made */
	bool unheard;       /* its servers accept by ways that we do not see: no nudges */
	bool pump;          /* give_pump() is due */
	bool own_program;   /* a server attached its own: we do not */
	bool beside;        /* shards of a keeper before are there, whose slots we do not know */
	bool steered;
	char why[128];      /* why it is not steered */
	uint64_t lost;      /* connections reset because nobody could take them */
	int64_t list_at;    /* monotonic ms: strangers may have moved */
	int64_t order_at;   /* probes for its order are due, monotonic ms; NEVER */
	unsigned order_tries;
	uint32_t order_changes; /* of the map, when they were tried */
	int64_t pump_at;    /* an orphan may have got connections, monotonic ms; 0: at once */
	bool releasing;     /* the last one left: the leftovers are being released */
	uint32_t slot_top;  /* one past the highest slot that was ever held */
	uint32_t ghosts; /* slots that live by their index, but have not rejoined since we started */
	struct bucket_table table; /* from here on snapshot.c looks at the parts in use only */
	uint16_t ghost_index[BUCKETS_MAX]; /* slot -> index; WIRE_NO_INDEX */
	struct index_map map;
	struct slot_stat slots[BUCKETS_MAX];
};

struct member { /* a held socket */
	bool used;
	bool condemned;  /* no proven owner and its queue stands still, or others accept: no buckets */
	int group;
	uint32_t slot, generation, weight;
	int fd;          /* our duplicate */
	uint64_t cookie;
	bool made;         /* by us, for the process that claimed it */
	int64_t claimed_at; /* by its last claimant, monotonic ms; 0: never */
	bool was_claimed;  /* by a process other than the one that joined: that one only holds it */
	bool followed;     /* one was made for another process that has it: its slot is not come back to */
	uint32_t binder;   /* pid of the process whose socket it is, or was made like */
	uint64_t joined_as; /* cookie of the socket that the shard sent: in mode shared another one */
	uint32_t pid;    /* of its last owner, as `status` shows it */
	uint8_t token[WIRE_TOKEN];
	struct page page;       /* none: UDP */
	uint64_t accepted;      /* while this socket was held */
	uint32_t counted;       /* the page's count when it was last added */
	enum wire_state state;
	uint64_t order;  /* of joining: the highest in its group is the newest */
	bool ready;      /* it is known to accept, or cannot be asked */
	unsigned waiting;       /* when stuck.c looked last */
	uint64_t seen_accepted; /* then */
	int64_t accepted_at;    /* a look found that it had accepted, monotonic ms; 0: never */
	int64_t moved_at;       /* its queue was empty or it accepted */
	int64_t usual_ms;       /* what a connection has lately taken it, about; 0: not known */
	unsigned deaf;        /* nudges in a row that were not answered */
	bool evict;           /* its slot has a new socket, or it left: end it when nothing can arrive */
	int64_t idle_since;   /* without buckets since, monotonic ms */
	int64_t hold_until;   /* orphans */
	int64_t watch_at;     /* a socket without a proven owner is looked at again; NEVER: it has one */
	int64_t stands_since; /* its queue has not moved since, monotonic ms; 0: it is empty */
	uint64_t stands_at;   /* and so many had been accepted */
};

/* A connection taken out of a queue where nobody accepts, on its way to a live shard. */
struct gift {
	bool used;
	int group;
	uint32_t from; /* slot */
	int fd;
	uint64_t cookie;
	int conn;      /* NONE: waits; else sent there and not acknowledged */
	int64_t since; /* monotonic ms */
	uint32_t id;
};

/* A connection of our own that wakes a shard, so that its accept can return a gift. */
struct nudge {
	bool used;
	bool probe;   /* brings nothing: its swallowing proves that the shard accepts */
	bool unsent;  /* not connected yet: it may still be withdrawn */
	bool ruled;   /* its rule is in the program */
	bool late;    /* not answered soon: another shard is nudged for its gift as well */
	bool gave_up; /* unanswered: not counted on any more, but it may still be in the queue */
	int group;  /* NONE: a knock on an address that we hold nothing of */
	int member; /* NONE: a ghost by its index, or whoever the kernel chooses */
	uint16_t index; /* of a ghost, or of what is to be found out there; WIRE_NO_INDEX */
	uint32_t changes; /* of the map, when it was sent to an index */
	int fd;
	uint64_t cookie;
	struct addr peer, local; /* as the shard sees them */
	int64_t sent_at;
	int64_t look_at; /* gave_up: is it out of the queue? */
};

enum hold { /* what an owner does with its socket */
	HOLD_JOINED,   /* it brought it; the page's word says whether it accepts from it */
	HOLD_BESIDE,   /* accepts from it beside others */
	HOLD_CLAIMANT, /* accepts from it alone */
	HOLD_ONLY,     /* nothing: its children may */
};

enum conn_state { CONN_NEW, CONN_READY, CONN_RESERVED, CONN_GRANTED, CONN_OWNER };

struct conn { /* a connection, and the process behind it while that lives */
	bool used;
	bool foreign; /* of another user */
	bool clean;   /* said that it runs exit(3) */
	bool deaf;    /* said that it cannot answer nudges */
	bool dead;    /* its process has ended */
	int fd;       /* NONE: the connection has ended */
	int pidfd;    /* NONE: not known, or the process is dead */
	uint64_t cookie, pidfd_id;
	uint32_t uid, pid, role;
	enum conn_state state;
	int64_t hello_until;
	int group;    /* reserved */
	int member;   /* owned */
	enum hold hold;
	struct wire_reserve want;
	struct wire_join grant; /* CONN_GRANTED */
	struct page page;       /* from RESERVE until JOIN */
	int64_t reserved_at;    /* monotonic ms; 0: it has joined since */
	/* launchers */
	char launch[WIRE_GROUP_MAX];
	uint32_t first, n;
	int32_t events; /* sent so far */
	bool stopping;
	uint8_t given_up[BUCKETS_MAX / 8];
};

/* The answer to the request that is being handled, sent after the commit. The request is taken out
 * of its socket after that: the next worker finds it there and sends the answer again. */
struct outbox {
	bool used;
	int conn;
	uint32_t seq;
	struct wire_packet packet;
};

struct shared;

struct keeper {
	const struct sys *sys;
	const struct os *os;
	struct shared *shared;
	uint32_t uid;
	int listener, epoll, diag;
	bool ending;
	bool trifle; /* this event has changed nothing that has to be committed by itself */
	bool soon; /* a shard has just been nudged, or given something: it will say something at once */
	unsigned spins_missed, spins_left_out; /* wait.c */
	int64_t now, accept_at, idle_since;
	int64_t vault_at; /* there is none: try again; NEVER: there is */
	unsigned conns, foreign;
	int conn_top, member_top, group_top, gift_top, nudge_top; /* one past the highest in use */
	uint32_t last_gift; /* id */
	unsigned n_closing;
	struct { /* not ours any more, to be closed as soon as that is committed */
		int fd;
		bool late; /* by the commit after that: the answer does not wait for it */
		uint64_t identity;
	} closing[CLOSING_MAX];
	struct outbox outbox;
	char service[128];
	struct group groups[GROUPS_MAX];
	struct member members[MEMBERS_MAX];
	struct conn conn[CONNS_MAX];
	struct gift gifts[GIFTS_MAX];
	struct nudge nudges[NUDGES_MAX];
};

/** state_commit - from here on the next worker would go on; then close what was to be closed */
void state_commit(struct keeper *k);

/** state_close - close a descriptor once it is committed that it is not recorded any more; identity: of
 * snapshot_identity() */
void state_close(struct keeper *k, int fd, uint64_t identity);

/** state_close_late - the same with the next commit but one, so after the answer to a request */
void state_close_late(struct keeper *k, int fd, uint64_t identity);

#endif

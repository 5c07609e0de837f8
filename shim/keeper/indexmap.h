/* A mirror of the kernel's array of a group: which socket has which index. The kernel appends a
 * joining socket and moves the last one into the hole of a leaving one (reuseport_add_sock,
 * reuseport_detach_sock); it tells nobody, so that the order is inferred from listings. Pure. */
#ifndef SOCKSHARD_KEEPER_INDEXMAP_H
#define SOCKSHARD_KEEPER_INDEXMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_MAX 2048u

struct index_entry {
	uint64_t cookie;
	bool certain; /* false: this index belongs to one of the uncertain sockets, not known which */
	bool marked;  /* the caller's, of the socket: kept as long as it is listed */
};

struct index_map {
	unsigned n;
	bool lost; /* the order cannot be inferred any more */
	uint32_t changes; /* counts sockets that came and went */
	struct index_entry e[INDEX_MAX];
};

/**
 * index_update - bring the map in line with a listing
 * @now: the cookies of all n sockets that the kernel's group has, in any order
 *
 * Exact while at most one socket vanished, or only such at the end of the array; several new ones at
 * once are known only together. What is not exact is marked, never guessed. A map that lost its order
 * gains it back when it becomes empty or has one socket.
 */
void index_update(struct index_map *m, const uint64_t *now, size_t n);

/** index_doubt - of a map that lost its order: every index may be anybody's, each can be proven */
void index_doubt(struct index_map *m);

/** index_prove - this socket was seen to have this index; false: it cannot, by what is certain */
bool index_prove(struct index_map *m, unsigned index, uint64_t cookie);

/** index_find - the index of a socket; -ENOENT; -EAGAIN when it is there but the index is not certain */
int index_find(const struct index_map *m, uint64_t cookie);

#endif

/* Power-of-two pieces, each size with a list of its free ones. Nothing goes back to the system. */
#include "pool.h"

#include <stdint.h>
#include <sys/mman.h>

#define SMALLEST 6  /* 64 bytes */
#define LARGEST  24 /* 16 MiB: a uthash table of a million descriptors */
#define CHUNK    65536u

union piece {
	union piece *next;
};

static union piece *free_pieces[LARGEST + 1];

static unsigned class_of(size_t bytes)
{
	unsigned c = SMALLEST;

	while (c <= LARGEST && ((size_t)1 << c) < bytes)
		c++;
	return c;
}

void *pool_alloc(size_t bytes)
{
	unsigned c = class_of(bytes);
	size_t size = (size_t)1 << c, chunk = size > CHUNK ? size : CHUNK;
	union piece *p;
	char *fresh;

	if (c > LARGEST)
		return NULL;
	if (!free_pieces[c]) {
		fresh = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (fresh == MAP_FAILED)
			return NULL;
		for (size_t at = 0; at < chunk; at += size)
			pool_free(fresh + at, size);
	}
	p = free_pieces[c];
	free_pieces[c] = p->next;
	return p;
}

void pool_free(void *p, size_t bytes)
{
	union piece *piece = p;
	unsigned c = class_of(bytes);

	piece->next = free_pieces[c];
	free_pieces[c] = piece;
}

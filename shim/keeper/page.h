/* The shared page of a held socket: made, mapped, watched by the kernel for our end, kept up to date
 * for the next keeper. */
#ifndef SOCKSHARD_KEEPER_PAGE_H
#define SOCKSHARD_KEEPER_PAGE_H

#include <stdbool.h>

#include "wire.h"

struct page {
	struct wire_page *at; /* NULL: none */
	int fd;               /* the memfd, for who has to map it again */
	uint64_t inode;
};

/** page_make - a fresh one, sealed against any change of size; 0 or -errno */
int page_make(struct page *ret);

/** page_map - map again what a predecessor made; 0, -EBADF: that descriptor is something else, -errno */
int page_map(struct page *page);

/** page_drop - unmap and close; a page that is none is passed over */
void page_drop(struct page *page);

/** page_watch_start - from now on the kernel marks every page of ours when this thread ends */
void page_watch_start(void);

/** page_accepted - the count, modulo 2^32 */
uint32_t page_accepted(const struct page *page);

/** page_claimed - the word that says who accepts (enum wire_claimed); a page that is none: unclaimed */
uint32_t page_claimed(const struct page *page);

/** page_claim - change that word; false: somebody else has changed it. A page that is none: true */
bool page_claim(struct page *page, uint32_t from, uint32_t to);

/** page_nudged - tell the shards to ask about what they accept, or to stop that */
void page_nudged(struct page *page, int on);

#endif

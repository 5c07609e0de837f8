/* See page.h. The robust futex list is the kernel's word for a dead owner: set_robust_list(2),
 * Documentation/locking/robust-futex-ABI.rst. */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct wire_page) <= WIRE_PAGE_BYTES, "a page of two");

/* The 32-bit futex word is the lower half of the 64-bit one. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define FUTEX_OFFSET ((long)(offsetof(struct wire_page, word) + 4))
#else
#define FUTEX_OFFSET ((long)offsetof(struct wire_page, word))
#endif

static struct robust_list_head robust = {
	.list = { &robust.list },
	.futex_offset = FUTEX_OFFSET - (long)offsetof(struct wire_page, robust_next),
};

static struct robust_list *node_of(struct wire_page *p)
{
	return (struct robust_list *)(void *)&p->robust_next;
}

void page_watch_start(void)
{
	robust.list.next = &robust.list;
	(void)syscall(SYS_set_robust_list, &robust, sizeof(robust));
}

/* In front of the list. The kernel reads it only when this very thread ends. */
static void link_page(struct wire_page *p)
{
	uint64_t word = atomic_load(&p->word), mine;

	do {
		mine = (word & ~(uint64_t)(FUTEX_TID_MASK | WIRE_KEEPER_DIED)) | (uint32_t)gettid();
	} while (!atomic_compare_exchange_weak(&p->word, &word, mine));
	node_of(p)->next = robust.list.next;
	robust.list.next = node_of(p);
}

static void unlink_page(struct wire_page *p)
{
	for (struct robust_list *at = &robust.list; at->next != &robust.list; at = at->next)
		if (at->next == node_of(p)) {
			at->next = node_of(p)->next;
			return;
		}
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

int page_map(struct page *page)
{
	void *at;

	page->at = NULL;
	if (page->inode == 0 || inode_of(page->fd) != page->inode)
		return -EBADF;
	at = mmap(NULL, WIRE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page->fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	page->at = at;
	link_page(page->at);
	return 0;
}

int page_make(struct page *ret)
{
	struct page page = { .fd = memfd_create("sockshard-page", MFD_CLOEXEC | MFD_ALLOW_SEALING) };
	int r;

	if (page.fd == -1)
		return -errno;
	page.inode = inode_of(page.fd);
	if (ftruncate(page.fd, WIRE_PAGE_BYTES) == -1 ||
	    fcntl(page.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		r = -errno;
	else
		r = page_map(&page);
	if (r < 0) {
		close(page.fd);
		return r;
	}
	*ret = page;
	return 0;
}

void page_drop(struct page *page)
{
	if (!page->at)
		return;
	unlink_page(page->at);
	munmap(page->at, WIRE_PAGE_BYTES);
	close(page->fd);
	page->at = NULL;
	page->fd = -1;
}

uint32_t page_accepted(const struct page *page)
{
	return (uint32_t)(atomic_load_explicit(&page->at->word, memory_order_relaxed) >> 32);
}

uint32_t page_claimed(const struct page *page)
{
	return page->at ? atomic_load(&page->at->claimed) : WIRE_UNCLAIMED;
}

bool page_claim(struct page *page, uint32_t from, uint32_t to)
{
	return !page->at || atomic_compare_exchange_strong(&page->at->claimed, &from, to);
}

void page_nudged(struct page *page, int on)
{
	if (on)
		atomic_fetch_or(&page->at->word, (uint64_t)WIRE_NUDGED);
	else
		atomic_fetch_and(&page->at->word, ~(uint64_t)WIRE_NUDGED);
}

/* A malloc to be preloaded that misbehaves in the program of VICTIM_MALLOC=KIND:
 *   null     every seventh call fails
 *   caller   fails whenever the sockshard library calls
 *   reenter  makes and closes sockets and descriptors inside */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static char kind;
static __thread bool inside;

__attribute__((constructor)) static void arm(void)
{
	const char *name = getenv("VICTIM_MALLOC");

	if (name && getenv("LD_PRELOAD"))
		kind = name[0];
}

static bool refuses(const void *caller)
{
	static unsigned calls;
	Dl_info info;
	bool refuse = false;

	if (!kind || inside)
		return false;
	inside = true;
	switch (kind) {
	case 'n':
		refuse = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 7 == 0;
		break;
	case 'c':
		refuse = dladdr(caller, &info) && strstr(info.dli_fname, "libsockshard");
		break;
	case 'r': {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		close(dup(fd));
		close(fd);
		break;
	}
	}
	inside = false;
	return refuse;
}

void *malloc(size_t size)
{
	return refuses(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return refuses(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return refuses(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

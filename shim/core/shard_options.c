/* setsockopt(2): a server that works on the sharing of its own socket, or gives it keys too late. */
#include <errno.h>
#include <stdatomic.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard.h"

/* Linux; other systems have no such options and never see these numbers with a socket of ours. */
#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#ifndef SO_ATTACH_REUSEPORT_EBPF
#define SO_ATTACH_REUSEPORT_EBPF 52
#endif
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef TCP_MD5SIG
#define TCP_MD5SIG 14
#endif
#ifndef TCP_MD5SIG_EXT
#define TCP_MD5SIG_EXT 32
#endif
#ifndef TCP_AO_ADD_KEY
#define TCP_AO_ADD_KEY 38
#endif
#define MEMINFO_OPTION_MEMORY 6 /* linux/sock_diag.h, SK_MEMINFO_OPTMEM */

static bool asks_zero(const void *value, socklen_t len)
{
	int v = 1;

	if (value && len >= sizeof(v))
		memcpy(&v, value, sizeof(v));
	return v == 0;
}

static void tell_own_program(const struct sys *sys, struct shard *s)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_OWN_PROGRAM;
	if (link_ask(sys, s, &p) == 0)
		s->own_program = true;
	wire_close_fds(sys, &p);
	log_info("the server attached a reuseport program of its own: it steers itself");
}

static const char *key_option(int level, int name)
{
	if (level != IPPROTO_TCP)
		return NULL;
	if (name == TCP_MD5SIG || name == TCP_MD5SIG_EXT)
		return "TCP_MD5SIG";
	return name == TCP_AO_ADD_KEY ? "TCP_AO_ADD_KEY" : NULL;
}

/* Workers have claimed, perhaps each a socket of its own. Not where this one has keys already: then all
 * share it, or it has been said. */
static bool comes_late(const struct sys *sys, int fd, const struct shard *s)
{
	uint32_t info[MEMINFO_OPTION_MEMORY + 1] = { 0 };
	socklen_t len = sizeof(info);

	if (s->state != SHARD_JOINED || s->mode != WIRE_MODE_BALANCE || init.workers_shared ||
	    atomic_load(&init_sandboxed) || atomic_load(&s->counter->claimed) != WIRE_BY_CLAIM)
		return false;
	return sys->getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 &&
	       info[MEMINFO_OPTION_MEMORY] == 0;
}

/* Without us it would hold for all workers. */
static int set_key(const struct sys *sys, int fd, int name, const void *value, socklen_t len)
{
	static _Atomic bool said;
	struct shard *s = init_is_self() ? shard_get(sys, fd) : NULL;
	bool late = s && comes_late(sys, fd, s);
	int r = sys->setsockopt(fd, IPPROTO_TCP, name, value, len) == -1 ? -errno : 0;
	char text[ADDR_TEXT_MAX];

	if (r == 0 && late && !atomic_exchange(&said, true))
		log_warn("%s: %s comes after the first claim: workers that have a socket of their own "
		         "do not get it (set before, or SOCKSHARD_WORKERS=shared: all do)",
		         addr_format(&s->addr, text, sizeof(text)), key_option(IPPROTO_TCP, name));
	if (s)
		shard_put(sys, s);
	return r;
}

int shard_setsockopt(const struct sys *sys, int fd, int level, int name, const void *value,
                     socklen_t len)
{
	struct shard *s = NULL;
	int r;

	if (key_option(level, name))
		return set_key(sys, fd, name, value, len);
	if (level == SOL_SOCKET && init_is_self())
		s = shard_get(sys, fd);
	if (s && name == SO_REUSEPORT && asks_zero(value, len)) {
		shard_put(sys, s); /* it would lock the next shard out */
		return 0;
	}
	if (s && name == SO_DETACH_REUSEPORT_BPF && s->state == SHARD_JOINED && !s->own_program) {
		shard_put(sys, s); /* it has none; ours stays */
		return -ENOENT;
	}
	r = sys->setsockopt(fd, level, name, value, len) == -1 ? -errno : 0;
	if (s && r == 0 && (name == SO_ATTACH_REUSEPORT_CBPF || name == SO_ATTACH_REUSEPORT_EBPF))
		tell_own_program(sys, s);
	if (s)
		shard_put(sys, s);
	return r;
}

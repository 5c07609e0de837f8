/* setsockopt(2): a server that works on the sharing of its own socket. */
#include <errno.h>
#include <netinet/in.h>
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

int shard_setsockopt(const struct sys *sys, int fd, int level, int name, const void *value,
                     socklen_t len)
{
	struct shard *s = NULL;
	int r;

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

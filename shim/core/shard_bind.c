/* bind(2): the first call that shows which address the server wants. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "init.h"
#include "link.h"
#include "shard_parts.h"

_Static_assert((int)WIRE_MODE_BALANCE == POLICY_BALANCE && (int)WIRE_MODE_SHARED == POLICY_SHARED &&
               (int)WIRE_MODE_HANDOVER == POLICY_HANDOVER && (int)WIRE_KEY_RANDOM == POLICY_KEY_RANDOM,
               "the wire has the policy's numbers");

static int real_bind(const struct sys *sys, int fd, const struct sockaddr *addr, socklen_t len)
{
	return sys->bind(fd, addr, len) == -1 ? -errno : 0;
}

/* No rule's, and so of no interest as a listener either: nobody is asked about it, and nobody is sent it. */
static int bind_left_alone(const struct sys *sys, int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = real_bind(sys, fd, addr, len);

	if (r == 0) {
		fdtab_lock();
		fdtab_tag(fd, FDTAB_FOREIGN);
		fdtab_unlock();
	}
	return r;
}

/* The counters are shared by everybody who inherited them. */
bool shard_family_has_accepted(void)
{
	bool found = atomic_load_explicit(&init_accepted, memory_order_relaxed);

	fdtab_lock();
	for (int fd = fdtab_next(0, false); fd >= 0 && !found; fd = fdtab_next(fd + 1, false)) {
		const struct shard *s = fdtab_find(fd);

		found = s->counter &&
		        atomic_load_explicit(&s->counter->word, memory_order_relaxed) >= WIRE_ONE;
	}
	fdtab_unlock();
	return found;
}

/* A second bind of an address by this process, as the kernel would have refused it. */
static bool bound_before(const struct sys *sys, const struct addr *a)
{
	for (int fd = 0;; fd++) {
		struct shard *s;
		bool same;

		fdtab_lock();
		fd = fdtab_next(fd, false);
		fdtab_unlock();
		if (fd < 0)
			return false;
		s = shard_get(sys, fd); /* a stale one vanishes here */
		same = s && s->owner == getpid() && addr_equal(&s->addr, a);
		if (s)
			shard_put(sys, s);
		if (same)
			return true;
	}
}

static void publish(const struct sys *sys, int fd, struct shard *s)
{
	int r;

	fdtab_lock();
	s->fds = 1;
	r = fdtab_add(fd, s, (uintptr_t)s->counter);
	fdtab_unlock();
	if (r < 0) {
		log_warn("out of memory: fd %d is shared, but not looked after", fd);
		shard_discard(sys, s);
	}
}

/* Mode shared: another one's socket for ours, which has no place in the table yet. */
static int share_udp(const struct sys *sys, int fd, struct shard *s, struct wire_packet *joined)
{
	int r;

	fdtab_lock();
	s->fds = 1;
	r = fdtab_add(fd, s, (uintptr_t)s->counter);
	fdtab_unlock();
	if (r == 0)
		r = shard_share(sys, s, joined);
	fdtab_lock();
	fdtab_remove(fd);
	fdtab_unlock();
	return r;
}

/* UDP enters its group by bind: the keeper does it, or lets us do it while it waits. */
static int join_udp(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                    struct shard *s)
{
	struct wire_packet p;
	int r;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_JOIN;
	p.body.join.addr = s->addr;
	p.body.join.cookie = s->cookie;
	p.fds[0] = fd;
	p.n_fds = 1;
	r = link_ask(sys, s, &p);
	if (r == 0 && p.body.joined.made)
		r = share_udp(sys, fd, s, &p);
	wire_close_fds(sys, &p);
	if (r == 0 && p.body.joined.granted) {
		r = real_bind(sys, fd, sa, len);
		if (r < 0)
			return r;
		p.head.type = WIRE_BOUND;
		p.fds[0] = fd;
		p.n_fds = 1;
		r = link_ask(sys, s, &p);
		wire_close_fds(sys, &p);
	}
	if (r == 0) {
		s->state = SHARD_JOINED;
		s->shared |= s->mode == WIRE_MODE_SHARED;
		memcpy(s->token, p.body.joined.token, sizeof(s->token));
		log_info("fd %d is slot %u of group '%s'", fd, p.body.joined.slot, init.group);
	}
	return r;
}

static bool is_bound(const struct sys *sys, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr a;

	return sys->getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	       addr_from_sockaddr((struct sockaddr *)&ss, len, &a) == 0 && a.port != 0;
}

/* The bind itself, with the option set. */
static int bind_shared(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                       struct shard *s)
{
	int r;

	if (s->addr.proto == IPPROTO_UDP && s->state != SHARD_PLAIN) {
		r = join_udp(sys, fd, sa, len, s);
		if (!link_failed(r))
			return r;
		s->state = SHARD_PLAIN;
		if (is_bound(sys, fd))
			return 0;
	}
	r = real_bind(sys, fd, sa, len);
	if (r == -EADDRINUSE && s->addr.proto == IPPROTO_TCP)
		r = shard_bind_named(sys, fd, s);
	if (r == 0 && s->addr.proto == IPPROTO_TCP && os_get()->listen_in_bind &&
	    sys->listen(fd, SOMAXCONN) == -1)
		r = -errno;
	return r;
}

/* Servers that are root for the bind only. The kernel asks who made the socket, and so does a keeper. */
static bool made_by_another(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid != geteuid();
}

/* Reach the keeper and reserve. 0; 1: go on without one; -errno: the bind fails. */
static int prepare(const struct sys *sys, int fd, struct shard *s)
{
	const char *why = NULL;
	char text[ADDR_TEXT_MAX];
	int r;

	if (init.keeper_off)
		return 1;
	r = atomic_load(&init_sandboxed) ? -EPERM : 0;
	if (r == 0 && made_by_another(fd)) {
		why = "another user made the socket than binds it, and sharing needs the same one";
		r = -EPERM;
	}
	if (r == 0)
		r = link_open(sys, s, true);
	if (r == 0)
		r = link_reserve(sys, s, false);
	if (r == 0)
		return 0;
	if (r == -EADDRINUSE) {
		log_info("%s: in use by another group, address or program",
		         addr_format(&s->addr, text, sizeof(text)));
		return r;
	}
	log_warn("%s: no keeper (%s): %s", addr_format(&s->addr, text, sizeof(text)),
	         why ? why : strerror(-r),
	         init.strict ? "bind fails (SOCKSHARD_STRICT=1)" : "shared by the option alone");
	return init.strict ? r : 1;
}

static in_port_t *port_of(struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)ss)->sin6_port
	                                 : &((struct sockaddr_in *)ss)->sin_port;
}

/* Mode offset: nothing is shared, slot k has port + k. The server's own address stays as it wrote it. */
static int bind_offset(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                       const struct addr *a)
{
	unsigned slot = init.slot == WIRE_SLOT_ANY ? 0 : init.slot, wanted = a->port + slot;
	char text[ADDR_TEXT_MAX];
	struct sockaddr_storage ss;
	int r;

	if (wanted > UINT16_MAX) {
		log_error("%s: port %u + slot %u, offset, is %u, past 65535",
		          addr_format(a, text, sizeof(text)), a->port, slot, wanted);
		return -EADDRNOTAVAIL;
	}
	if (len > sizeof(ss))
		len = sizeof(ss);
	memcpy(&ss, sa, len);
	*port_of(&ss) = htons((uint16_t)wanted);
	r = bind_left_alone(sys, fd, (const struct sockaddr *)&ss, len);
	if (r == -EADDRINUSE)
		log_error("%s: port %u (%u + slot %u, offset) is in use",
		          addr_format(a, text, sizeof(text)), wanted, a->port, slot);
	return r;
}

/* From what is known of the system alone: 0; -EOPNOTSUPP or -ENOTSUP and why. */
static int refuse(const struct os *os, const struct addr *a, enum policy_mode mode, char *why)
{
	int r;

	if (mode == POLICY_SHARED) { /* one socket: nothing to balance */
		if (os->caps & OS_KEEPER)
			return 0;
		(void)snprintf(why, OS_WHY_MAX, "mode shared needs the keeper, which runs on Linux only");
		return -EOPNOTSUPP;
	}
	r = os_refuse(os, a, why);
	if (r == 0 && mode == POLICY_HANDOVER && !(os->caps & OS_STEER)) {
		(void)snprintf(why, OS_WHY_MAX, "mode handover needs a system that can steer");
		r = -EOPNOTSUPP;
	}
	return r;
}

/* The one line about it, then what the server would have without us, unless SOCKSHARD_STRICT=1. */
static int refused(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                   struct shard *s, int r, const char *why)
{
	char text[ADDR_TEXT_MAX], way_out[80] = "";

	if (r == -ENOTSUP && s->mode == WIRE_MODE_BALANCE && s->state != SHARD_PLAIN &&
	    (os_get()->caps & OS_KEEPER))
		(void)snprintf(way_out, sizeof(way_out),
		               "; for one queue for all, which does without it, the policy %s/%u=shared",
		               s->addr.proto == IPPROTO_TCP ? "tcp" : "udp", s->addr.port);
	log_warn("%s is not shared: %s%s%s", addr_format(&s->addr, text, sizeof(text)),
	         why[0] ? why : strerror(-r), way_out,
	         init.strict ? "; bind fails (SOCKSHARD_STRICT=1)" : "");
	os_get()->unshare(sys, fd, &s->addr, s->had_port, s->had_addr);
	shard_discard(sys, s);
	return init.strict ? -EOPNOTSUPP : real_bind(sys, fd, sa, len);
}

static int share_and_bind(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len,
                          struct shard *s, const struct policy_rule *rule)
{
	const struct os *os = os_get();
	char why[OS_WHY_MAX] = "";
	int r = refuse(os, &s->addr, rule->mode, why);

	s->mode = rule->mode;
	s->key = rule->key;
	s->hold_ms = (uint32_t)(rule->hold_ms >= 0 ? rule->hold_ms : POLICY_HOLD_MS);
	s->stuck_ms = (uint32_t)(rule->stuck_ms >= 0 ? rule->stuck_ms : POLICY_STUCK_MS);
	if (r < 0)
		return refused(sys, fd, sa, len, s, r, why);
	r = prepare(sys, fd, s);
	if (r < 0) {
		shard_discard(sys, s);
		return r;
	}
	if (r == 1)
		s->state = SHARD_PLAIN;
	r = shard_option(sys, fd, s, why);
	if (r < 0)
		return refused(sys, fd, sa, len, s, r, why);
	r = bind_shared(sys, fd, sa, len, s);
	if (r == 0) {
		publish(sys, fd, s);
		return 0;
	}
	os->unshare(sys, fd, &s->addr, s->had_port, s->had_addr);
	shard_discard(sys, s);
	return r;
}

/* By this process, or by one that it was forked from. */
static bool family_has_bound(const struct addr *a)
{
	bool found = false;

	fdtab_lock();
	for (int fd = fdtab_next(0, false); fd >= 0 && !found; fd = fdtab_next(fd + 1, false))
		found = addr_equal(&fdtab_find(fd)->addr, a);
	fdtab_unlock();
	return found;
}

/* A rule with * as port ends where a search for free ports may begin; but not for one more sharing socket
 * of an address that is ours (nginx with `reuseport` that gets more workers): left alone, it would be
 * a stranger in our own group. */
static bool is_past_reach(const struct sys *sys, int fd, const struct policy_rule *rule,
                          const struct addr *a)
{
	return rule->any_port && shard_family_has_accepted() &&
	       !(os_get()->shared(sys, fd) == 1 && family_has_bound(a));
}

int shard_bind(const struct sys *sys, int fd, const struct sockaddr *sa, socklen_t len)
{
	const struct policy_rule *rule;
	struct shard *s;
	struct addr a;

	init_ensure();
	if (init.disabled && !init.strict)
		return real_bind(sys, fd, sa, len);
	if (!init_is_self())
		return real_bind(sys, fd, sa, len);
	if (!shard_examine(sys, fd, sa, len, &a))
		return bind_left_alone(sys, fd, sa, len);
	if (init.disabled)
		return -EINVAL;
	rule = policy_match(&init.policy, &a);
	if (!rule || rule->mode == POLICY_OFF)
		return real_bind(sys, fd, sa, len);
	if (fdtab_peek(fd) != FDTAB_NOT_OURS) {
		s = shard_get(sys, fd);
		if (s) { /* bound before: the kernel has its own words for that */
			shard_put(sys, s);
			return real_bind(sys, fd, sa, len);
		}
	}
	if (is_past_reach(sys, fd, rule, &a))
		return bind_left_alone(sys, fd, sa, len);
	if (rule->mode == POLICY_OFFSET)
		return bind_offset(sys, fd, sa, len, &a);
	s = shard_make(sys, fd, &a);
	if (!s)
		return real_bind(sys, fd, sa, len);
	if (!s->had_port && bound_before(sys, &a)) {
		shard_discard(sys, s);
		return -EADDRINUSE;
	}
	return share_and_bind(sys, fd, sa, len, s, rule);
}

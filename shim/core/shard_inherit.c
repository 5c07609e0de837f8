/* Listeners that this process's memory does not know: from before an exec, from a service manager, or
 * sent by another process. Joined, or left alone with a reason. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/log.h"
#include "fdinfo.h"
#include "init.h"
#include "link.h"
#include "shard_parts.h"

/* A listening TCP socket that a rule covers; NULL: none of ours. */
static const struct policy_rule *look(const struct sys *sys, int fd, struct addr *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(int);
	const struct policy_rule *rule;
	int listens = 0;

	if (sys->getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == -1 || !listens)
		return NULL;
	len = sizeof(ss);
	if (sys->getsockname(fd, (struct sockaddr *)&ss, &len) == -1 ||
	    !shard_examine(sys, fd, (struct sockaddr *)&ss, len, ret) || ret->proto != IPPROTO_TCP)
		return NULL;
	rule = policy_match(&init.policy, ret);
	if (!rule || (rule->mode != POLICY_BALANCE && rule->mode != POLICY_HANDOVER))
		return NULL;
	return rule;
}

static void tag(int fd, uintptr_t mark)
{
	fdtab_lock();
	fdtab_tag(fd, mark);
	fdtab_unlock();
}

static void scan_one(const struct sys *sys, int fd, void *arg)
{
	struct addr a;

	(void)arg;
	if (fdtab_peek(fd) == FDTAB_NOT_OURS && look(sys, fd, &a))
		tag(fd, FDTAB_CLAIM);
}

void shard_scan(const struct sys *sys)
{
	static _Atomic bool done;

	init_ensure();
	if (!init_is_self() || atomic_exchange(&done, true))
		return;
	if (!init.disabled && !init.keeper_off && !atomic_load(&init_sandboxed))
		(void)fdinfo_each(sys, scan_one, NULL);
	fdtab_lock();
	fdtab_scanned();
	fdtab_unlock();
}

void shard_received(const struct sys *sys, int fd)
{
	struct addr a;

	if (!init_is_self())
		return;
	if (fdtab_peek(fd) != FDTAB_NOT_OURS)
		shard_reused(sys, fd);
	init_ensure();
	/* Looked at before, so that one that is sent connections does not wait for anybody's claim. */
	if (!init.disabled && !init.keeper_off && !atomic_load(&init_sandboxed) && look(sys, fd, &a))
		shard_touch(sys, fd, TOUCH_HOLD, -1);
}

/* One more number of a socket that is known by now. */
static bool is_copy(const struct sys *sys, int fd)
{
	uint64_t cookie;
	bool added = false;

	if (os_get()->cookie(sys, fd, &cookie) < 0)
		return false;
	fdtab_lock();
	for (int n = fdtab_next(0, false); n >= 0 && !added; n = fdtab_next(n + 1, false)) {
		struct shard *s = fdtab_find(n);

		if (s->cookie == cookie && fdtab_add(fd, s, fdtab_mark_of(s)) == 0) {
			s->fds++;
			added = true;
		}
	}
	fdtab_unlock();
	return added;
}

/* Nobody holds it: it joins as it is, queue and all. */
static int join(const struct sys *sys, struct shard *s, int fd, const struct policy_rule *rule,
                char why[OS_WHY_MAX])
{
	const struct os *os = os_get();
	struct stat st;
	int r;

	strcpy(why, "");
	if (rule->any_port && shard_family_has_accepted())
		return -EPERM;
	if (fstat(fd, &st) == -1)
		return -errno;
	if (st.st_uid != geteuid()) {
		strcpy(why, "it was made by another user, and sharing needs the same one");
		return -EPERM;
	}
	r = shard_option(sys, fd, s, why);
	if (r == 0)
		r = link_open(sys, s, true);
	if (r == 0)
		r = link_rejoin(sys, s, fd, false);
	if (r < 0) {
		link_close(sys, s);
		if (r != -EBADF) /* then another process has joined it meanwhile */
			os->unshare(sys, fd, &s->addr, s->had_port, s->had_addr);
		return r;
	}
	s->state = SHARD_JOINED;
	s->part = SHARD_JOINER;
	s->owner = getpid();
	return 0;
}

/* Out of the table again: as if we had never seen it. */
static void withdraw(const struct sys *sys, struct shard *s, int fd, uintptr_t mark)
{
	shard_forget(sys, fd);
	shard_put(sys, s);
	tag(fd, mark);
}

static struct shard *enter(const struct sys *sys, int fd, const struct addr *a,
                           const struct policy_rule *rule)
{
	struct shard *s = shard_make(sys, fd, a);
	int r;

	if (!s)
		return NULL;
	s->state = SHARD_PLAIN;
	s->owner = 0;
	s->mode = rule->mode;
	s->key = rule->key;
	s->hold_ms = (uint32_t)(rule->hold_ms >= 0 ? rule->hold_ms : POLICY_HOLD_MS);
	s->stuck_ms = (uint32_t)(rule->stuck_ms >= 0 ? rule->stuck_ms : POLICY_STUCK_MS);
	fdtab_lock();
	s->fds = s->users = 1;
	r = fdtab_add(fd, s, (uintptr_t)s->counter | FDTAB_CLAIM);
	fdtab_unlock();
	if (r == 0)
		return s;
	shard_discard(sys, s);
	return NULL;
}

static int take_part(const struct sys *sys, struct shard *s, int fd, enum shard_touch touch, int epfd,
                     const struct policy_rule *rule, char why[OS_WHY_MAX])
{
	struct shard_watches watches;
	enum wire_want want = WIRE_WANT_HOLD;
	int r;

	strcpy(why, "");
	if (touch != TOUCH_HOLD)
		want = shard_want(sys, s, epfd, &watches);
	r = shard_claim(sys, s, fd, want, &watches, false, false);
	if (r == -ENOENT && touch != TOUCH_HOLD)
		r = join(sys, s, fd, rule, why);
	if (r == -EBADF && touch != TOUCH_HOLD)
		r = shard_claim(sys, s, fd, want, &watches, false, false);
	return r;
}

void shard_inherit(const struct sys *sys, int fd, enum shard_touch touch, int epfd)
{
	bool known_of = fdtab_peek(fd) == FDTAB_CLAIM;
	const struct policy_rule *rule = NULL;
	char why[OS_WHY_MAX], text[ADDR_TEXT_MAX];
	struct shard *s;
	struct addr a;
	int r;

	if ((unsigned)fd >= FDTAB_MARKS)
		return;
	init_ensure();
	if (!init.disabled && !init.keeper_off)
		rule = look(sys, fd, &a);
	if (!rule) {
		if (touch != TOUCH_HOLD || known_of) /* else it may be about to listen */
			tag(fd, FDTAB_FOREIGN);
		return;
	}
	if (is_copy(sys, fd))
		return;
	s = enter(sys, fd, &a, rule);
	if (!s)
		return;
	r = take_part(sys, s, fd, touch, epfd, rule, why);
	if (r < 0) {
		withdraw(sys, s, fd, touch == TOUCH_HOLD ? FDTAB_CLAIM : FDTAB_FOREIGN);
		if (touch != TOUCH_HOLD)
			log_info("fd %d: %s: a listener that was here before is left alone: %s", fd,
			         addr_format(&a, text, sizeof(text)), why[0] ? why : strerror(-r));
		return;
	}
	fdtab_lock();
	fdtab_set_mark(s, (uintptr_t)s->counter |
	                  (s->part == SHARD_CLAIMED || s->part == SHARD_BESIDE ? 0 : FDTAB_CLAIM));
	fdtab_unlock();
	shard_put(sys, s);
}

void shard_hold_unknown(const struct sys *sys)
{
	shard_scan(sys);
	for (int fd = 0; fd < FDTAB_MARKS && atomic_load(&fdtab_tags) > 0; fd++)
		if (fdtab_peek(fd) == FDTAB_CLAIM)
			shard_inherit(sys, fd, TOUCH_HOLD, -1);
}

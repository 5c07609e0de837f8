/* Credentials and names. See unix(7): abstract names are scoped by network namespace, as ports are. */
#include "peer.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define OVERFLOW_UID 65534u /* /proc/sys/kernel/overflowuid, which nobody changes */

int peer_identify(const struct sys *sys, int fd, uint32_t *ret_uid, uint32_t *ret_pid)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	if (sys->getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == -1)
		return -errno;
	*ret_uid = c.uid;
	*ret_pid = c.pid > 0 ? (uint32_t)c.pid : 0;
	return 0;
}

static bool same_user_namespace(uint32_t pid)
{
	struct stat own, other;
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/%u/ns/user", pid);
	return pid != 0 && stat("/proc/self/ns/user", &own) == 0 && stat(path, &other) == 0 &&
	       own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

bool peer_is(uint32_t peer_uid, uint32_t peer_pid, uint32_t uid)
{
	return peer_uid == uid && (uid != OVERFLOW_UID || same_user_namespace(peer_pid));
}

socklen_t peer_address(const char *name, uint32_t uid, unsigned k, struct sockaddr_un *ret)
{
	int n;

	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	if (name)
		n = snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "%s", name);
	else
		n = snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "sockshard/%u/%u", uid, k);
	if (n <= 0 || (size_t)n >= sizeof(ret->sun_path) - 1)
		return 0;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* See check_space.h. */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check_space.h"

struct in6_request { /* struct in6_ifreq of linux/ipv6.h */
	struct in6_addr addr;
	uint32_t prefix;
	int index;
};

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;
	int e;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	e = errno;
	close(fd);
	return n < 0 ? -e : 0;
}

/* user_namespaces(7): one user and one group, mapped to themselves. */
static int map_ids(uid_t uid, gid_t gid)
{
	char text[64];
	int r;

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	r = put("/proc/self/uid_map", text);
	if (r == 0)
		r = put("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	return r == 0 ? put("/proc/self/gid_map", text) : r;
}

static int loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		r = -errno;
	request.ifr_flags |= IFF_UP;
	if (r == 0 && ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		r = -errno;
	close(fd);
	return r;
}

/* An address that cannot be given is only one that cannot be bound in the dry run. */
static void give_addresses(const struct ifaddrs *host)
{
	int four = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int six = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	unsigned n = 0;

	for (; host != NULL; host = host->ifa_next) {
		const struct sockaddr *sa = host->ifa_addr;

		if (sa == NULL || (host->ifa_flags & IFF_LOOPBACK))
			continue;
		if (sa->sa_family == AF_INET && four >= 0) {
			struct ifreq request;

			memset(&request, 0, sizeof(request));
			snprintf(request.ifr_name, sizeof(request.ifr_name), "lo:%u", ++n);
			memcpy(&request.ifr_addr, sa, sizeof(struct sockaddr_in));
			(void)ioctl(four, SIOCSIFADDR, &request);
		} else if (sa->sa_family == AF_INET6 && six >= 0) {
			struct sockaddr_in6 from;
			struct in6_request request = {.prefix = 128};

			memcpy(&from, sa, sizeof(from));
			request.addr = from.sin6_addr;
			request.index = (int)if_nametoindex("lo");
			if (!IN6_IS_ADDR_LINKLOCAL(&request.addr))
				(void)ioctl(six, SIOCSIFADDR, &request);
		}
	}
	if (four >= 0)
		close(four);
	if (six >= 0)
		close(six);
}

int check_space_enter(char why[CHECK_SPACE_WHY_MAX])
{
	struct ifaddrs *host = NULL;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	const char *step = "a network namespace";
	int r = 0;

	if (getifaddrs(&host) != 0)
		host = NULL;
	if (uid != 0 || unshare(CLONE_NEWNET) != 0) {
		step = "a user and a network namespace";
		r = unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : -errno;
		if (r == 0) {
			step = uid != 0 ? "a user namespace's map of users"
					: "a map of user 0, which needs CAP_SETFCAP "
					  "(user_namespaces(7)),";
			r = map_ids(uid, gid);
		}
	}
	if (r == 0) {
		step = "the loopback device of a network namespace";
		r = loopback_up();
	}
	if (r == 0)
		give_addresses(host);
	else
		snprintf(why, CHECK_SPACE_WHY_MAX,
			 "%s is refused here (%s): a container's rules, "
			 "user.max_user_namespaces, kernel.unprivileged_userns_clone or "
			 "kernel.apparmor_restrict_unprivileged_userns",
			 step, strerror(-r));
	if (host != NULL)
		freeifaddrs(host);
	return r;
}

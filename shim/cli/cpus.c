/* CPUs allowed by affinity and by control groups. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cpus.h"

/* The first bytes of a file as text; 0 or -errno. */
static int read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	buf[n] = '\0';
	return 0;
}

static long rounded_up(long long quota, long long period)
{
	long long cpus = (quota + period - 1) / period;

	return cpus > LONG_MAX ? LONG_MAX : (long)cpus;
}

/* The quota of one folder of control groups; 0: none. */
static long quota_of(const char *folder)
{
	char path[PATH_MAX], text[64];
	long long quota = 0, period = 0;

	/* "max 100000" or "150000 100000" */
	if (snprintf(path, sizeof(path), "%s/cpu.max", folder) < (int)sizeof(path) &&
	    read_text(path, text, sizeof(text)) == 0 &&
	    sscanf(text, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0)
		return rounded_up(quota, period);
	if (snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", folder) >= (int)sizeof(path) ||
	    read_text(path, text, sizeof(text)) != 0 || sscanf(text, "%lld", &quota) != 1 ||
	    quota <= 0) /* -1: none */
		return 0;
	if (snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", folder) >= (int)sizeof(path) ||
	    read_text(path, text, sizeof(text)) != 0 || sscanf(text, "%lld", &period) != 1 ||
	    period <= 0)
		return 0;
	return rounded_up(quota, period);
}

static long smaller(long a, long b)
{
	if (a == 0 || b == 0)
		return a + b;
	return a < b ? a : b;
}

/* The smallest quota from a group up to the root of its tree. */
static long quota_upwards(const char *tree, const char *group, size_t n)
{
	char folder[PATH_MAX];
	size_t base;
	long least = 0;
	int r = snprintf(folder, sizeof(folder), "%s%.*s", tree, (int)n, group);

	if (r < 0 || r >= (int)sizeof(folder))
		return 0;
	base = strlen(tree);
	for (;;) {
		char *slash;

		least = smaller(least, quota_of(folder));
		slash = strrchr(folder + base, '/');
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* Is "cpu" among the comma-separated controllers. */
static int names_cpu(const char *list, size_t n)
{
	while (n > 0) {
		size_t word = strcspn(list, ",:");

		if (word == 3 && memcmp(list, "cpu", 3) == 0)
			return 1;
		word += word < n;
		list += word;
		n -= word;
	}
	return 0;
}

long cpus_quota(const char *cgroup, const char *root)
{
	char tree[PATH_MAX];
	long least = 0;

	/* lines of cgroups(7): ID:CONTROLLERS:/PATH, "0::/PATH" for version 2 */
	while (*cgroup != '\0') {
		size_t line = strcspn(cgroup, "\n");
		const char *list = memchr(cgroup, ':', line);
		const char *path =
			list == NULL ? NULL
				     : memchr(list + 1, ':', line - (size_t)(list + 1 - cgroup));
		size_t n = path == NULL ? 0 : line - (size_t)(path + 1 - cgroup);

		if (path != NULL && path == list + 1) {
			least = smaller(least, quota_upwards(root, path + 1, n));
		} else if (path != NULL && names_cpu(list + 1, (size_t)(path - list - 1)) &&
			   snprintf(tree, sizeof(tree), "%s/cpu", root) < (int)sizeof(tree)) {
			least = smaller(least, quota_upwards(tree, path + 1, n));
		}
		cgroup += line + (cgroup[line] == '\n');
	}
	return least;
}

long cpus_auto(void)
{
	char text[4096] = "";
	long quota = 0, cpus = 1;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cpus = CPU_COUNT(&set);
	else if (sysconf(_SC_NPROCESSORS_ONLN) > 0) /* more CPUs than the set has room for */
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (read_text("/proc/self/cgroup", text, sizeof(text)) == 0)
		quota = cpus_quota(text, "/sys/fs/cgroup");
	return smaller(cpus, quota);
}

int cpus_pin(size_t k)
{
	cpu_set_t allowed, one;
	size_t n, cpu;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return -errno;
	n = (size_t)CPU_COUNT(&allowed);
	k = n != 0 ? k % n : 0;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && k-- == 0) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			return sched_setaffinity(0, sizeof(one), &one) == 0 ? 0 : -errno;
		}
	}
	return -ENODEV;
}

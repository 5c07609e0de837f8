/* How many CPUs this process may use, and which. */
#ifndef SOCKSHARD_CLI_CPUS_H
#define SOCKSHARD_CLI_CPUS_H

#include <stddef.h>

/**
 * cpus_quota - CPUs that the control groups' time quotas amount to, rounded up
 * @cgroup: text of /proc/self/cgroup
 * @root: where the control groups are mounted, "/sys/fs/cgroup"
 *
 * The smallest quota of the group and all above it (cpu.max of version 2, cpu.cfs_quota_us of
 * version 1) counts. Returns it, at least 1; 0 when there is none.
 */
long cpus_quota(const char *cgroup, const char *root);

/** cpus_auto - what `-n auto` means: CPUs allowed by affinity and quota, at least 1 */
long cpus_auto(void);

/** cpus_pin - bind the calling process to the k-th CPU it may use, modulo their number; 0, -errno
 */
int cpus_pin(size_t k);

#endif

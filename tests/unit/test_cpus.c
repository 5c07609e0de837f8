/* cli/cpus.c, on control groups made of ordinary files. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/cli/cpus.h"

static char root[] = "/tmp/test_cpus.XXXXXX";

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static void put(const char *folder, const char *name, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "mkdir -p %s%s", root, folder);
	assert_int_equal(system(path), 0);
	snprintf(path, sizeof(path), "%s%s/%s", root, folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void a_quota_is_rounded_up(void **state)
{
	(void)state;
	put("/a", "cpu.max", "150000 100000\n");
	assert_int_equal(cpus_quota("0::/a\n", root), 2);
	put("/a", "cpu.max", "200000 100000\n");
	assert_int_equal(cpus_quota("0::/a\n", root), 2);
	put("/a", "cpu.max", "1000 100000\n");
	assert_int_equal(cpus_quota("0::/a\n", root), 1);
}

static void no_quota_is_no_limit(void **state)
{
	(void)state;
	put("/none", "cpu.max", "max 100000\n");
	assert_int_equal(cpus_quota("0::/none\n", root), 0);
	assert_int_equal(cpus_quota("0::/missing\n", root), 0);
	assert_int_equal(cpus_quota("", root), 0);
	assert_int_equal(cpus_quota("nonsense\n0:\n::\n", root), 0);
	put("/broken", "cpu.max", "-1 0\n");
	assert_int_equal(cpus_quota("0::/broken\n", root), 0);
}

static void the_smallest_quota_above_counts(void **state)
{
	(void)state;
	put("/top", "cpu.max", "300000 100000\n");
	put("/top/mid", "cpu.max", "max 100000\n");
	put("/top/mid/leaf", "cpu.max", "800000 100000\n");
	assert_int_equal(cpus_quota("0::/top/mid/leaf\n", root), 3);
	assert_int_equal(cpus_quota("0::/top/mid/leaf/not-seen-in-here\n", root), 3);
}

static void version_one_is_read_too(void **state)
{
	(void)state;
	put("/cpu/svc", "cpu.cfs_quota_us", "250000\n");
	put("/cpu/svc", "cpu.cfs_period_us", "100000\n");
	put("/cpu/free", "cpu.cfs_quota_us", "-1\n");
	put("/cpu/free", "cpu.cfs_period_us", "100000\n");
	assert_int_equal(cpus_quota("3:memory:/x\n2:cpu,cpuacct:/svc\n0::/\n", root), 3);
	assert_int_equal(cpus_quota("2:cpuacct,cpu:/svc\n", root), 3);
	assert_int_equal(cpus_quota("2:cpuset:/svc\n", root), 0);
	assert_int_equal(cpus_quota("2:cpu:/free\n", root), 0);
}

static void auto_is_at_least_one_and_at_most_the_affinity(void **state)
{
	cpu_set_t set;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	assert_in_range(cpus_auto(), 1, CPU_COUNT(&set));
}

/* In a child, since it changes the process. */
static void pinning_takes_the_allowed_cpus_in_turn(void **state)
{
	cpu_set_t set, now;
	size_t n, k;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	n = (size_t)CPU_COUNT(&set);
	for (k = 0; k <= n; k++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			size_t cpu = 0, before = 0;

			if (cpus_pin(k) != 0 || sched_getaffinity(0, sizeof(now), &now) != 0 ||
			    CPU_COUNT(&now) != 1)
				_exit(1);
			for (; !CPU_ISSET(cpu, &now); cpu++)
				before += CPU_ISSET(cpu, &set) ? 1 : 0;
			_exit(CPU_ISSET(cpu, &set) && before == k % n ? 0 : 2);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_quota_is_rounded_up),
		cmocka_unit_test(no_quota_is_no_limit),
		cmocka_unit_test(the_smallest_quota_above_counts),
		cmocka_unit_test(version_one_is_read_too),
		cmocka_unit_test(auto_is_at_least_one_and_at_most_the_affinity),
		cmocka_unit_test(pinning_takes_the_allowed_cpus_in_turn),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}

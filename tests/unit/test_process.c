/* keeper/process.c on real processes: children of this one. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../shim/keeper/process.h"

#define NO_PROCESS 0x7ffffffeu

/* A child that holds what we hold, under a name of its own, until it is killed. */
static pid_t start_child(const char *name)
{
	int ready[2];
	char byte;
	pid_t child;

	assert_return_code(pipe(ready), errno);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, name);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_return_code(child, errno);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return child;
}

static void await_zombie(pid_t child)
{
	siginfo_t info;

	assert_return_code(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), errno);
}

static void reap(pid_t child)
{
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_return_code(fd, errno);
	return fd;
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	assert_return_code(fstat(fd, &st), errno);
	return st.st_ino;
}

/* Since boot, as field 22 of /proc/PID/stat has it. */
static int64_t time_in_ticks(void)
{
	struct timespec ts;

	assert_return_code(clock_gettime(CLOCK_BOOTTIME, &ts), errno);
	return ts.tv_sec * sysconf(_SC_CLK_TCK) + ts.tv_nsec * sysconf(_SC_CLK_TCK) / 1000000000;
}

static void a_pidfd_tells_its_process(void **state)
{
	pid_t child = start_child("child");
	int own = pidfd_of(getpid()), other = pidfd_of(child);

	(void)state;
	assert_int_equal(process_pidfd_pid(own), getpid());
	assert_int_equal(process_pidfd_pid(other), child);
	reap(child);
	assert_int_equal(process_pidfd_pid(other), -ESRCH);
	close(own);
	close(other);
}

static void what_is_no_pidfd_is_refused(void **state)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), pipes[2];

	(void)state;
	assert_return_code(null, errno);
	assert_return_code(pipe(pipes), errno);
	assert_int_equal(process_pidfd_pid(null), -EBADF);
	assert_int_equal(process_pidfd_pid(pipes[0]), -EBADF);
	assert_true(process_pidfd_pid(-1) < 0);
	close(null);
	close(pipes[0]);
	close(pipes[1]);
	assert_true(process_pidfd_pid(null) < 0);
}

static void a_running_process_is_not_exiting(void **state)
{
	pid_t child = start_child("child");

	(void)state;
	assert_false(process_exiting((uint32_t)getpid()));
	assert_false(process_exiting((uint32_t)child));
	reap(child);
}

static void a_zombie_and_a_process_that_is_gone_are_exiting(void **state)
{
	pid_t child = start_child("child");

	(void)state;
	kill(child, SIGKILL);
	await_zombie(child);
	assert_true(process_exiting((uint32_t)child));
	reap(child);
	assert_true(process_exiting(NO_PROCESS));
}

static void the_start_tells_a_process_from_a_later_one(void **state)
{
	pid_t child = start_child(") Z 1 1");
	uint64_t started = process_started((uint32_t)child), own = process_started((uint32_t)getpid());

	(void)state;
	assert_true(own > 0 && started >= own);
	assert_int_equal(process_started((uint32_t)child), started);
	assert_true(started <= (uint64_t)(time_in_ticks() + 1));
	kill(child, SIGKILL);
	await_zombie(child);
	assert_int_equal(process_started((uint32_t)child), 0);
	reap(child);
	assert_int_equal(process_started((uint32_t)child), 0);
}

static void who_was_forked_by_another_may_descend_from_it(void **state)
{
	uint32_t self = (uint32_t)getpid(), parent = (uint32_t)getppid();
	pid_t child = start_child(") Z 1 1"), brother = start_child("brother");

	(void)state;
	assert_true(process_may_descend((uint32_t)child, self));
	assert_true(process_may_descend((uint32_t)child, parent));
	assert_false(process_may_descend((uint32_t)child, (uint32_t)brother));
	assert_false(process_may_descend(self, (uint32_t)child));
	reap(child);
	reap(brother);
}

static void who_has_lost_its_parent_may_descend_from_any(void **state)
{
	(void)state;
	assert_true(process_may_descend(1, (uint32_t)getpid()));
	assert_true(process_may_descend(NO_PROCESS, (uint32_t)getpid()));
}

static void a_process_may_be_called_as_it_likes(void **state)
{
	pid_t child = start_child(") Z 1 1 1 1 1 4");

	(void)state;
	assert_false(process_exiting((uint32_t)child));
	reap(child);
}

static void a_socket_is_found_in_the_process_that_holds_it(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t inode = inode_of(fd);
	pid_t child;

	(void)state;
	assert_int_equal(process_holds((uint32_t)getpid(), inode), 1);
	child = start_child("child");
	close(fd);
	assert_int_equal(process_holds((uint32_t)getpid(), inode), 0);
	assert_int_equal(process_holds((uint32_t)child, inode), 1);
	kill(child, SIGKILL);
	await_zombie(child);
	assert_int_not_equal(process_holds((uint32_t)child, inode), 1);
	reap(child);
	assert_true(process_holds(NO_PROCESS, inode) < 0);
}

static void a_file_with_the_same_inode_number_is_no_socket(void **state)
{
	int pipes[2];

	(void)state;
	assert_return_code(pipe(pipes), errno);
	assert_int_equal(process_holds((uint32_t)getpid(), inode_of(pipes[0])), 0);
	close(pipes[0]);
	close(pipes[1]);
}

static void the_holder_of_a_socket_is_found_and_named(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t inode = inode_of(fd);
	pid_t child = start_child("the holder");
	char command[32], few[4];

	(void)state;
	close(fd);
	assert_int_equal(process_holder(inode, command, sizeof(command)), child);
	assert_string_equal(command, "the holder");
	assert_int_equal(process_holder(inode, few, sizeof(few)), child);
	assert_string_equal(few, "the");
	reap(child);
	assert_int_equal(process_holder(inode, command, sizeof(command)), 0);
	assert_string_equal(command, "");
}

/* Of a program as it was started: the kernel keeps what execve(2) had. */
static bool started_with(char **envp, const char *group)
{
	pid_t child = fork();
	bool found;
	int status;

	if (child == 0) {
		char *argv[] = { (char *)(uintptr_t)"sleep", (char *)(uintptr_t)"100", NULL };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL); /* stops when it has executed */
		execve("/bin/sleep", argv, envp);
		_exit(1);
	}
	assert_return_code(child, errno);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
	found = process_has_group((uint32_t)child, group);
	reap(child);
	return found;
}

static void a_process_is_of_the_group_it_was_started_with(void **state)
{
	char other[] = "XSOCKSHARD_GROUP=no", first[] = "SOCKSHARD_GROUP=web", second[] = "A=";
	char *with[] = { other, second, first, NULL }, *without[] = { other, NULL }, *none[] = { NULL };

	(void)state;
	assert_true(started_with(with, "web"));
	assert_false(started_with(with, "we"));
	assert_false(started_with(with, "web2"));
	assert_false(started_with(with, ""));
	assert_true(started_with(without, ""));
	assert_false(started_with(without, "no"));
	assert_false(started_with(none, "")); /* or it has overwritten it */
	assert_false(process_has_group(NO_PROCESS, ""));
}

/* /proc/self/cgroup as on other machines: mounted over, in a child's own mount namespace. */
static void service_is(const char *cgroup, const char *want)
{
	char path[] = "/tmp/sockshard-cgroup-XXXXXX", name[128];
	int fd = mkstemp(path), status;
	pid_t child;

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, cgroup, strlen(cgroup)), strlen(cgroup));
	close(fd);
	child = fork();
	if (child == 0) {
		if (unshare(CLONE_NEWNS) == -1 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
		    mount(path, "/proc/self/cgroup", NULL, MS_BIND, NULL) == -1)
			_exit(77);
		process_service(name, sizeof(name));
		_exit(strcmp(name, want) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	unlink(path);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("  not allowed: to mount\n");
		skip();
	}
	if (status != 0)
		fail_msg("%s: not %s", cgroup, want);
}

static void the_unit_that_ends_us_is_named(void **state)
{
	(void)state;
	service_is("0::/system.slice/web.service\n", "web.service");
	service_is("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope");
	service_is("0::/user.slice/user@1000.service/app.slice/run-7.scope\n", "run-7.scope");
	service_is("12:pids:/\n1:name=systemd:/system.slice/web.service\n0::/\n", "web.service");
}

static void without_a_unit_there_is_no_name(void **state)
{
	(void)state;
	service_is("0::/\n", "");
	service_is("", "");
	service_is("0::/system.slice\n", "");
	service_is("0::/.service\n", "");
	service_is("0::/service.d/x.services\n", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pidfd_tells_its_process),
		cmocka_unit_test(what_is_no_pidfd_is_refused),
		cmocka_unit_test(a_running_process_is_not_exiting),
		cmocka_unit_test(a_zombie_and_a_process_that_is_gone_are_exiting),
		cmocka_unit_test(the_start_tells_a_process_from_a_later_one),
		cmocka_unit_test(who_was_forked_by_another_may_descend_from_it),
		cmocka_unit_test(who_has_lost_its_parent_may_descend_from_any),
		cmocka_unit_test(a_process_may_be_called_as_it_likes),
		cmocka_unit_test(a_socket_is_found_in_the_process_that_holds_it),
		cmocka_unit_test(a_file_with_the_same_inode_number_is_no_socket),
		cmocka_unit_test(the_holder_of_a_socket_is_found_and_named),
		cmocka_unit_test(a_process_is_of_the_group_it_was_started_with),
		cmocka_unit_test(the_unit_that_ends_us_is_named),
		cmocka_unit_test(without_a_unit_there_is_no_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* core/fdinfo.c: what /proc/self says about the descriptors of this process. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/core/fdinfo.h"

static struct fdinfo_watch watches[64];
static int n_watches, n_locks, lock_pid;

static void saw_watch(const struct fdinfo_watch *w, void *arg)
{
	assert_ptr_equal(arg, &n_watches);
	if (n_watches < 64)
		watches[n_watches++] = *w;
}

static void saw_lock(int pid, void *arg)
{
	(void)arg;
	n_locks++;
	lock_pid = pid;
}

static int look(void)
{
	const struct fdinfo_visitor visitor = {saw_watch, saw_lock, &n_watches};

	n_watches = n_locks = lock_pid = 0;
	return fdinfo_visit(sys_get(), &visitor);
}

static void a_registration_is_found_as_it_was_made(void **state)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int epfd = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(0, EFD_CLOEXEC);
	struct stat st;

	(void)state;
	event.data.u64 = UINT64_C(0xfedcba9876543210);
	assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(n_watches, 1);
	assert_int_equal(watches[0].epfd, epfd);
	assert_int_equal(watches[0].fd, fd);
	assert_int_equal(watches[0].events & (EPOLLIN | EPOLLET), EPOLLIN | EPOLLET);
	assert_true(watches[0].data == UINT64_C(0xfedcba9876543210));
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(watches[0].inode == 0 || watches[0].inode == st.st_ino);
	close(fd);
	close(epfd);
	assert_int_equal(look(), 0);
	assert_int_equal(n_watches, 0);
}

static void every_one_of_many_registrations_is_found(void **state)
{
	int epfd = epoll_create1(EPOLL_CLOEXEC), fds[40];

	(void)state;
	for (int i = 0; i < 40; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = (uint64_t)i}};

		fds[i] = eventfd(0, EFD_CLOEXEC);
		assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &event), 0);
	}
	assert_int_equal(look(), 0);
	assert_int_equal(n_watches, 40);
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	close(epfd);
}

static void a_lock_of_flock_names_the_process_that_took_it(void **state)
{
	char path[] = "/tmp/fdinfo-XXXXXX";
	int fd = mkstemp(path), status;
	pid_t pid;

	(void)state;
	assert_return_code(fd, errno);
	unlink(path);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(n_locks, 1);
	assert_int_equal(lock_pid, getpid());
	pid = fork();
	if (pid == 0) /* it has the lock too, but has not taken it: a master's pid file */
		_exit(look() != 0 || n_locks != 1 || lock_pid == getpid());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

static void a_record_lock_names_the_process_that_took_it(void **state)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char name[] = "/tmp/test-fdinfo-XXXXXX";
	int fd = mkstemp(name), status;
	pid_t pid;

	(void)state;
	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(look(), 0);
	assert_int_equal(n_locks, 0);
	assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(n_locks, 1);
	assert_int_equal(lock_pid, getpid());
	pid = fork();
	if (pid == 0) /* it has the descriptor, and not the lock */
		_exit(look() != 0 || (n_locks > 0 && lock_pid == getpid()));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

static void operate(int set, short by)
{
	struct sembuf op = {.sem_num = 1, .sem_op = by};

	assert_return_code(semop(set, &op, 1), errno);
}

/* Net::Server's `serialize semaphore`, apache's `Mutex sysvsem`: 1, and 0 while somebody accepts. */
static void a_semaphore_is_held_by_the_process_that_took_it(void **state)
{
	int set = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600), status;
	pid_t pid;

	(void)state;
	assert_return_code(set, errno);
	operate(set, 1);
	assert_false(fdinfo_holds_semaphore(sys_get()));
	operate(set, -1);
	assert_true(fdinfo_holds_semaphore(sys_get()));
	pid = fork();
	if (pid == 0)
		_exit(fdinfo_holds_semaphore(sys_get()));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	operate(set, 1);
	assert_false(fdinfo_holds_semaphore(sys_get()));
	assert_return_code(semctl(set, 0, IPC_RMID), errno);
}

static void count(const struct sys *sys, int fd, void *arg)
{
	(void)sys;
	((int *)arg)[fd < 64 ? fd : 63]++;
}

static void each_descriptor_is_visited_once(void **state)
{
	int seen[64] = {0}, fd = eventfd(0, EFD_CLOEXEC), high = fcntl(fd, F_DUPFD_CLOEXEC, 50);

	(void)state;
	assert_int_equal(fdinfo_each(sys_get(), count, seen), 0);
	assert_int_equal(seen[fd], 1);
	assert_int_equal(seen[high], 1);
	assert_int_equal(seen[49], 0);
	close(fd);
	close(high);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_registration_is_found_as_it_was_made),
		cmocka_unit_test(every_one_of_many_registrations_is_found),
		cmocka_unit_test(a_lock_of_flock_names_the_process_that_took_it),
		cmocka_unit_test(a_record_lock_names_the_process_that_took_it),
		cmocka_unit_test(a_semaphore_is_held_by_the_process_that_took_it),
		cmocka_unit_test(each_descriptor_is_visited_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

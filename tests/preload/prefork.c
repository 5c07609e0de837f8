/* Binds once and forks workers that serve.  prefork PORT HOW [WORKERS [OPTION]]
 *   HOW     accept, accept4, poll, ppoll, poll_chk, ppoll_chk, select, pselect, epoll, epoll_pwait,
 *           epoll_pwait2: what a worker calls first
 *   OPTION  parent: the parent serves too; later: once it gets SIGUSR1; threads: 8 threads in each
 *           worker; lock, flock, semaphore: a record lock, one of flock(2), or a semaphore of
 *           System V around each accept; epoll: the listener is registered in the
 *           parent, and the workers share the epoll instance; count: answers have "pid N M": N returns
 *           of epoll_wait, M accepted; idle: one more child that never accepts; user: workers change to
 *           uid and gid 65534; chroot: workers in an empty root; seccomp: workers forbid new kinds of
 *           calls before they serve; environ: the parent overwrites its environment; exec: the parent
 *           executes itself with the listener before it forks; listen: the parent only binds, each
 *           worker listens; FD: the listener
 * SIGTERM ends it and its workers; a worker that ends has a successor. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "victim.h"

static const char *how, *option = "";
static int listener, shared_epoll = -1, lock_file = -1, semaphore = -1;
static int returns, accepted;

static int is(const char *what)
{
	return strcmp(option, what) == 0;
}

static void wait_by_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(listener, &set);
	if ((strcmp(how, "pselect") == 0
		     ? pselect(listener + 1, &set, NULL, NULL, NULL, NULL)
		     : select(listener + 1, &set, NULL, NULL, NULL)) != 1)
		die(how);
}

/* What programs call that were built with _FORTIFY_SOURCE; glibc's. */
int __poll_chk(struct pollfd *, nfds_t, int, size_t) __attribute__((weak));
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t)
	__attribute__((weak));

static void wait_by_poll(void)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int r = -1;

	if (strcmp(how, "poll") == 0)
		r = poll(&p, 1, -1);
	else if (strcmp(how, "ppoll") == 0)
		r = ppoll(&p, 1, NULL, NULL);
	else if (strcmp(how, "poll_chk") == 0)
		r = __poll_chk(&p, 1, -1, sizeof(p));
	else
		r = __ppoll_chk(&p, 1, NULL, NULL, sizeof(p));
	if (r != 1)
		die(how);
}

static int epoll_of_listener(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = 0x1234567890abcdef}};
	int epfd = epoll_create1(0);

	if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event) < 0)
		die("epoll");
	return epfd;
}

static void wait_by_epoll(int epfd)
{
	struct epoll_event event;

	returns++;
	if ((strcmp(how, "epoll_pwait2") == 0  ? epoll_pwait2(epfd, &event, 1, NULL, NULL)
	     : strcmp(how, "epoll_pwait") == 0 ? epoll_pwait(epfd, &event, 1, -1, NULL)
					       : epoll_wait(epfd, &event, 1, -1)) != 1 ||
	    event.data.u64 != 0x1234567890abcdef)
		die("epoll_wait");
}

static void lock(short type)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET};
	struct sembuf op = {.sem_op = type == F_WRLCK ? -1 : 1, .sem_flg = SEM_UNDO};

	if (semaphore >= 0 && semop(semaphore, &op, 1) < 0)
		die("semop");
	if (lock_file >= 0 && is("flock") && flock(lock_file, type == F_WRLCK ? LOCK_EX : LOCK_UN) < 0)
		die("flock");
	if (lock_file >= 0 && is("lock") && fcntl(lock_file, F_SETLKW, &l) < 0)
		die("fcntl");
}

/* A lock of flock(2) belongs to the open file: each worker opens it itself. */
static void open_lock(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", lock_file);
	lock_file = open(path, O_RDWR);
	if (lock_file < 0)
		die(path);
}

static void *serve(void *arg)
{
	int epfd = shared_epoll;

	if (strncmp(how, "epoll", 5) == 0 && epfd < 0)
		epfd = epoll_of_listener();
	for (;;) {
		int fd;

		lock(F_WRLCK);
		if (strncmp(how, "poll", 4) == 0 || strncmp(how, "ppoll", 5) == 0) {
			wait_by_poll();
		} else if (strcmp(how, "select") == 0 || strcmp(how, "pselect") == 0) {
			wait_by_select();
		} else if (epfd >= 0) {
			wait_by_epoll(epfd);
		}
		fd = strcmp(how, "accept4") == 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC)
						 : accept(listener, NULL, NULL);
		lock(F_UNLCK);
		if (fd >= 0 && is("count"))
			dprintf(fd, "%d %d %d\n", (int)getpid(), returns, ++accepted);
		if (fd >= 0 && is("count"))
			close(fd);
		else if (fd >= 0)
			victim_answer(fd);
		else if (errno != EAGAIN)
			die("accept");
	}
	return arg;
}

/* Everything that a server of this kind needs, and nothing that a preload might think of. */
static void forbid(void)
{
	static const int good[] = {SYS_accept,      SYS_accept4, SYS_poll,    SYS_sendto,
				   SYS_recvfrom,    SYS_close,   SYS_getpid,  SYS_exit_group,
				   SYS_select,      SYS_write,   SYS_epoll_wait, SYS_pselect6,
				   SYS_rt_sigreturn, SYS_sendmsg, SYS_recvmsg};
	enum { N = sizeof(good) / sizeof(good[0]) };
	struct sock_filter code[2 * N + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog program = {.len = 2 * N + 2, .filter = code};

	for (int i = 0; i < N; i++) {
		code[1 + 2 * i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							       (unsigned)good[i], 0, 1);
		code[2 + 2 * i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[1 + 2 * N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		die("seccomp");
}

static void worker(void)
{
	pthread_t threads[8];

	if (is("listen") && listen(listener, 64) < 0)
		die("listen");
	if (is("flock"))
		open_lock();
	if (is("chroot") && (chroot("/proc/self/map_files") < 0 || chdir("/") < 0))
		die("chroot");
	if (is("seccomp"))
		forbid();
	for (int i = 0; is("threads") && i < 8; i++)
		if (pthread_create(&threads[i], NULL, serve, NULL) != 0)
			die("pthread_create");
	serve(NULL);
}

static void fork_worker(int idle)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return;
	signal(SIGUSR1, SIG_DFL);
	if (is("user") && (setgid(65534) < 0 || setuid(65534) < 0))
		die("setuid");
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* which a change of user takes back */
	if (getppid() != parent)
		_exit(0);
	if (idle)
		pause();
	worker();
}

static void execute(char **argv, int port)
{
	char number[16], name[16], workers[16];

	snprintf(name, sizeof(name), "%d", port);
	snprintf(number, sizeof(number), "%d", listener);
	snprintf(workers, sizeof(workers), "%s", argv[3]);
	execl("/proc/self/exe", argv[0], name, how, workers, number, (char *)NULL);
	die("exec");
}

static void overwrite_environment(void)
{
	char *end = environ[0];

	for (char **e = environ; *e == end; e++)
		end += strlen(*e) + 1;
	memset(environ[0], 'x', (size_t)(end - environ[0] - 1));
}

static void await_listen(void)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	while (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens)
		usleep(1000);
}

static void nothing(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), n = argc > 3 ? atoi(argv[3]) : 4;
	char name[] = "/tmp/prefork-XXXXXX";
	struct sigaction wake = {.sa_handler = nothing};

	how = argc > 2 ? argv[2] : "accept";
	option = argc > 4 ? argv[4] : "";
	sigaction(SIGUSR1, &wake, NULL);
	listener = atoi(option)   ? atoi(option)
		   : is("listen") ? victim_bind(port)
				  : victim_listen(port);
	if (is("exec"))
		execute(argv, port);
	if (is("environ"))
		overwrite_environment();
	if (strncmp(how, "accept", 6) != 0)
		fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK);
	if (is("epoll"))
		shared_epoll = epoll_of_listener();
	if (is("lock") || is("flock")) {
		lock_file = mkstemp(name);
		unlink(name);
	}
	if (is("semaphore")) {
		semaphore = semget(IPC_PRIVATE, 1, 0600); /* ends with the namespace of the test */
		if (semaphore < 0 || semctl(semaphore, 0, SETVAL, 1) < 0)
			die("semget");
	}
	for (int i = 0; i < n + is("idle"); i++)
		fork_worker(i == n);
	await_listen();
	victim_ready();
	if (is("later"))
		pause();
	if (is("parent") || is("later"))
		serve(NULL);
	for (;;)
		if (wait(NULL) > 0)
			fork_worker(0);
}

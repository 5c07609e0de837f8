/* Binds, listens and forks workers that register the inherited listener in many ways before the wait
 * that claims it: two epoll instances, three numbers, one for each flag.  registered PORT [WORKERS]
 * Each prints how the kernel lists the registrations before ("was") and once the listener is a socket
 * of its own or kept ("is": with the socket's inode), then answers each client with
 *   PID ET ONESHOT LEVEL EXCLUSIVE UNARMED LEFT
 * how often a registration of each kind woke it for this client in 20 looks and more, and how often any
 * did in 20 once nothing waited. */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "victim.h"

enum { ET, ONESHOT, LEVEL, EXCLUSIVE, UNARMED, KINDS, LOOKS = 20 };

static int listener, copy, third, epfds[2];

static const struct kind {
	int *number;
	unsigned instance;
	uint32_t events;
	uint64_t data;
} kinds[KINDS] = {
	[ET] = {&listener, 0, EPOLLIN | EPOLLET, 0x1111111122222222},
	[ONESHOT] = {&copy, 0, EPOLLIN | EPOLLONESHOT, 0x3333333344444444},
	[LEVEL] = {&copy, 1, EPOLLIN | EPOLLRDHUP, 0x5555555566666666},
	[EXCLUSIVE] = {&listener, 1, EPOLLIN | EPOLLEXCLUSIVE, 0xffffffff00000000},
	[UNARMED] = {&third, 0, EPOLLONESHOT, 0x7777777788888888},
};

static unsigned long long inode_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		die("fstat");
	return st.st_ino;
}

static void print_registrations(const char *word)
{
	for (int i = 0; i < 2; i++) {
		char path[64], line[256];
		unsigned fd, events;
		unsigned long long data, inode;
		FILE *info;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epfds[i]);
		info = fopen(path, "re");
		if (!info)
			die("fopen");
		while (fgets(line, sizeof(line), info))
			if (sscanf(line, "tfd: %u events: %x data: %llx pos:%*u ino:%llx", &fd,
				   &events, &data, &inode) == 4)
				dprintf(STDOUT_FILENO, "%s %d epoll %d fd %u %x %llx inode %llu\n", word,
					(int)getpid(), i, fd, events, data, inode);
		fclose(info);
	}
}

static void register_all(void)
{
	copy = fcntl(listener, F_DUPFD_CLOEXEC, 0);
	third = dup(listener);
	for (int i = 0; i < 2; i++)
		epfds[i] = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < KINDS; i++) {
		struct epoll_event event = {kinds[i].events, {.u64 = kinds[i].data}};

		if (epoll_ctl(epfds[kinds[i].instance], EPOLL_CTL_ADD, *kinds[i].number, &event) < 0)
			die("epoll_ctl");
	}
}

/* -> of how many */
static int look(int instance, int timeout_ms, int counts[KINDS])
{
	struct epoll_event events[KINDS];
	int n = epoll_wait(epfds[instance], events, KINDS, timeout_ms);

	for (int i = 0; i < n; i++) {
		int kind = 0;

		while (kind < KINDS && kinds[kind].data != events[i].data.u64)
			kind++;
		if (kind == KINDS)
			die("data of nobody's");
		counts[kind]++;
	}
	return n;
}

static void serve(void)
{
	static bool fired; /* for good */
	int counts[KINDS] = {0}, none[KINDS] = {0}, left = 0, client;

	while (counts[LEVEL] == 0 || counts[EXCLUSIVE] == 0)
		look(1, -1, counts);
	while (counts[ET] == 0 || !(fired || counts[ONESHOT]))
		look(0, -1, counts);
	fired = true;
	for (int i = 0; i < LOOKS; i++) {
		look(0, 0, counts);
		look(1, 0, counts);
	}
	client = accept(listener, NULL, NULL);
	if (client < 0)
		return;
	for (int i = 0; i < LOOKS; i++)
		left += look(0, 0, none) + look(1, 0, none);
	dprintf(client, "%d %d %d %d %d %d %d\n", (int)getpid(), counts[ET], counts[ONESHOT],
		counts[LEVEL], counts[EXCLUSIVE], counts[UNARMED], left);
	close(client);
}

static void worker(void)
{
	int counts[KINDS] = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	register_all();
	print_registrations("was");
	look(0, 0, counts);
	look(1, 0, counts);
	print_registrations("is");
	dprintf(STDOUT_FILENO, "flags %d %d %d %d %d %llu %llu %llu\n", (int)getpid(),
		fcntl(listener, F_GETFD), fcntl(copy, F_GETFD), fcntl(third, F_GETFD),
		fcntl(listener, F_GETFL) & O_NONBLOCK, inode_of(listener), inode_of(copy), inode_of(third));
	for (;;)
		serve();
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 2;

	listener = victim_listen(victim_port(argc, argv));
	fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK);
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			worker();
	}
	victim_ready();
	pause();
}

/* Sends its listener to 4 programs that it starts, as node's cluster does; they listen again and serve.
 *   pass PORT [HOW]
 * HOW  plain   they do not listen again
 *      thread  nor so, and register it with an epoll instance that a thread waits at already
 *      bound   it is sent before it listens: each of them listens, and registers it
 *      late    one program, which receives it after SIGUSR1; the sender has closed it by then */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include "victim.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static void message(struct msghdr *m, union control *c, struct iovec *iov)
{
	memset(m, 0, sizeof(*m));
	memset(c, 0, sizeof(*c));
	m->msg_control = c->bytes;
	m->msg_controllen = sizeof(c->bytes);
	m->msg_iov = iov;
	m->msg_iovlen = 1;
}

static void send_listener(int to, int fd)
{
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	union control c;
	struct msghdr m;

	message(&m, &c, &iov);
	CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
	if (sendmsg(to, &m, 0) != 1)
		die("sendmsg");
}

static int receive_listener(int from)
{
	char byte;
	struct iovec iov = {&byte, 1};
	union control c;
	struct msghdr m;
	int fd;

	message(&m, &c, &iov);
	if (recvmsg(from, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		die("recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static void *serve_events(void *arg)
{
	int epfd = *(const int *)arg;

	for (;;) {
		struct epoll_event event;

		if (epoll_wait(epfd, &event, 1, -1) == 1)
			victim_serve(event.data.fd, 1);
	}
	return NULL;
}

static void serve_in_a_thread(int from)
{
	int epfd = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	pthread_t thread;

	if (pthread_create(&thread, NULL, serve_events, &epfd) != 0)
		die("pthread_create");
	event.data.fd = receive_listener(from);
	usleep(200000); /* it waits by now */
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, event.data.fd, &event) < 0)
		die("epoll_ctl");
	pthread_join(thread, NULL);
}

static void serve_registered(int from)
{
	int epfd = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};

	event.data.fd = receive_listener(from);
	if (listen(event.data.fd, 64) < 0)
		die("listen");
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, event.data.fd, &event) < 0)
		die("epoll_ctl");
	(void)serve_events(&epfd);
}

static void receive(int from, const char *how)
{
	sigset_t set;
	int number, fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (strcmp(how, "bound") == 0)
		serve_registered(from);
	if (strcmp(how, "thread") == 0)
		serve_in_a_thread(from);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (strcmp(how, "late") == 0 && sigwait(&set, &number) != 0)
		die("sigwait");
	fd = receive_listener(from);
	if (strcmp(how, "again") == 0 && listen(fd, 64) < 0)
		die("listen");
	victim_serve(fd, -1);
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd, pair[2];
	const char *how = argc > 2 ? argv[2] : "again";
	int late = strcmp(how, "late") == 0;
	char number[16];
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (argc > 3)
		receive(atoi(argv[3]), how);
	fd = strcmp(how, "bound") == 0 ? victim_bind(port) : victim_listen(port);
	for (int i = 0; i < (late ? 1 : 4); i++) {
		pid_t pid;

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
			die("socketpair");
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			close(fd);
			snprintf(number, sizeof(number), "%d", pair[1]);
			execl("/proc/self/exe", argv[0], argv[1], how, number, (char *)NULL);
			die("exec");
		}
		close(pair[1]);
		send_listener(pair[0], fd);
	}
	if (late)
		close(fd);
	victim_ready();
	pause();
}

/* Sends its listener to 4 programs that it starts, as node's cluster does; they listen again and serve.
 *   pass PORT [plain]     plain: they do not listen again */
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

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd, pair[2];
	int plain = argc > 2 && strcmp(argv[2], "plain") == 0;
	char number[16];

	if (argc > 3) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = receive_listener(atoi(argv[3]));
		if (!plain && listen(fd, 64) < 0)
			die("listen");
		victim_serve(fd, -1);
	}
	fd = victim_listen(port);
	for (int i = 0; i < 4; i++) {
		pid_t pid;

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
			die("socketpair");
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			close(fd);
			snprintf(number, sizeof(number), "%d", pair[1]);
			execl("/proc/self/exe", argv[0], argv[1], plain ? "plain" : "again", number,
			      (char *)NULL);
			die("exec");
		}
		close(pair[1]);
		send_listener(pair[0], fd);
	}
	victim_ready();
	pause();
}

/* Registers its socket with epoll, edge-triggered, before bind and listen. */
#include <fcntl.h>
#include <sys/epoll.h>

#include "victim.h"

int main(int argc, char **argv)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int port = victim_port(argc, argv), poller = epoll_create1(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), client;

	if (fd < 0 || poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll");
	if (bind_port(fd, port) < 0 || listen(fd, 64) < 0)
		die("bind");
	victim_ready();
	for (;;) {
		if (epoll_wait(poller, &event, 1, -1) < 1)
			continue;
		while ((client = accept(fd, NULL, NULL)) >= 0)
			victim_answer(client);
		if (errno != EAGAIN)
			die("accept");
		if (fcntl(fd, F_GETFL) != (O_RDWR | O_NONBLOCK))
			die("flags of the listener changed");
	}
}

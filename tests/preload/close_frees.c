/* Serves until a line comes on stdin; ends its only listener in one of many ways and says so; then waits
 * for the end of stdin.  close_frees PORT close|range|closefrom|syscall|dup2|shutdown|connect */
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include "victim.h"

static int end(int fd, const char *how)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	if (strcmp(how, "range") == 0)
		return close_range((unsigned)fd, (unsigned)fd, 0);
	if (strcmp(how, "closefrom") == 0) {
		closefrom(fd);
		return 0;
	}
	if (strcmp(how, "syscall") == 0)
		return (int)syscall(SYS_close, fd);
	if (strcmp(how, "dup2") == 0)
		return dup2(open("/dev/null", O_RDWR), fd) == fd ? 0 : -1;
	if (strcmp(how, "shutdown") == 0)
		return shutdown(fd, SHUT_RDWR);
	if (strcmp(how, "connect") == 0)
		return connect(fd, &none, sizeof(none));
	return close(fd);
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd;
	struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.events = POLLIN}};
	char c;

	if (argc < 3)
		return 2;
	fd = victim_listen(port);
	victim_ready();
	fds[1].fd = fd;
	while (poll(fds, 2, -1) > 0 && !fds[0].revents)
		victim_serve(fd, 1);
	if (read(0, &c, 1) != 1)
		die("stdin");
	if (end(fd, argv[2]) < 0)
		die(argv[2]);
	printf("closed\n");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

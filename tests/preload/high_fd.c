/* Listens on descriptors beyond 65535: one moved there before bind, one after listen. */
#include <fcntl.h>
#include <sys/resource.h>

#include "victim.h"

#define HIGH 70000

int main(int argc, char **argv)
{
	struct rlimit limit = {.rlim_cur = 2 * HIGH, .rlim_max = 2 * HIGH};
	int port = victim_port(argc, argv), low, fd;

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
	low = socket(AF_INET, SOCK_STREAM, 0);
	fd = fcntl(low, F_DUPFD, HIGH);
	close(low);
	if (fd < HIGH || bind_port(fd, port + 1) < 0 || listen(fd, 5) < 0)
		die("high descriptor");
	close(fd);
	low = victim_listen(port);
	fd = dup2(low, HIGH + 1);
	close(low);
	victim_ready();
	victim_serve(fd, -1);
}

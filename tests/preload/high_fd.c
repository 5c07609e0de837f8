/* Listens on descriptors as high as the hard limit lets it, up to 70,001 (a preload may keep its records
 * by 16 bits): one moved there before bind, one after listen. */
#include <fcntl.h>
#include <sys/resource.h>

#include "victim.h"

#define HIGH 70000

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), low, fd, high = HIGH;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit");
	if (limit.rlim_max < HIGH + 2)
		high = (int)limit.rlim_max - 2;
	limit.rlim_cur = (rlim_t)high + 2;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
	low = socket(AF_INET, SOCK_STREAM, 0);
	fd = fcntl(low, F_DUPFD, high);
	close(low);
	if (fd < high || bind_port(fd, port + 1) < 0 || listen(fd, 5) < 0)
		die("high descriptor");
	close(fd);
	low = victim_listen(port);
	fd = dup2(low, high + 1);
	close(low);
	victim_ready();
	victim_serve(fd, -1);
}

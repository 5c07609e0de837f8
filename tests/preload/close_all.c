/* Closes all descriptors, as daemons do: before its life with a listener among them, and again with
 * the listener kept.  close_all PORT loop|range|closefrom|syscall|asm */
#include <sys/syscall.h>

#include "victim.h"

#define LAST_FD 4096

static long raw_close(int fd)
{
	long r;

#if defined(__x86_64__)
	__asm__ volatile("syscall" : "=a"(r) : "0"((long)SYS_close), "D"((long)fd)
	                 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long number __asm__("x8") = SYS_close;
	register long x0 __asm__("x0") = fd;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(number) : "memory");
	r = x0;
#else
#error "write the raw system call of this processor"
#endif
	return r;
}

static void close_between(const char *how, int first, int end)
{
	if (first >= end)
		return;
	if (strcmp(how, "range") == 0) {
		close_range((unsigned)first, (unsigned)end - 1, 0);
		return;
	}
	for (int fd = first; fd < end; fd++) {
		if (strcmp(how, "syscall") == 0)
			syscall(SYS_close, fd);
		else if (strcmp(how, "asm") == 0)
			raw_close(fd);
		else
			close(fd);
	}
}

static void close_all_but(const char *how, int keep)
{
	close_between(how, FIRST_FD, keep);
	if (strcmp(how, "closefrom") == 0)
		closefrom(keep + 1);
	else
		close_between(how, keep + 1, LAST_FD);
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd;

	if (argc < 3)
		return 2;
	victim_listen(port);
	close_all_but(argv[2], 2);
	fd = victim_listen(port);
	close_all_but(argv[2], fd);
	victim_ready();
	victim_serve(fd, -1);
}

/* Forbids itself, once it listens, every system call that a sandboxed server does not make; socket(2)
 * of AF_UNIX, pidfd_open, memfd_create and open kill. Then lives on: serves one client, closes its
 * listener, binds anew, serves. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "victim.h"

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define KILL_CALL(number)                                                                          \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),                                       \
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

static void forbid(void)
{
	struct sock_filter filter[] = {
	        LOAD(nr),
	        KILL_CALL(SYS_pidfd_open),
	        KILL_CALL(SYS_memfd_create),
	        KILL_CALL(SYS_openat),
	        KILL_CALL(SYS_execve),
	        KILL_CALL(SYS_socketpair),
	        KILL_CALL(SYS_connect),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
	        LOAD(args[0]),
	        KILL_CALL(AF_UNIX),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		die("seccomp");
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = victim_listen(port);

	forbid();
	victim_ready();
	victim_serve(fd, 1);
	close(fd);
	fd = victim_listen(port);
	victim_serve(fd, -1);
}

/* old_kernel [-c | -r ERROR] COMMAND...: runs it on a Linux of before 5.3, as far as it can tell: no
 * pidfds, no close_range, no clone3, by a seccomp filter that answers ENOSYS. -c: what a strict
 * container does, on any Linux: a fork that shares the descriptor table (CLONE_FILES without CLONE_VM)
 * gets EPERM. -r: setsockopt(SO_REUSEPORT) fails with that number, for all it starts. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define REFUSE(number)                                                                             \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),                                       \
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)
#if defined(__s390__)
#define CLONE_FLAGS args[1]
#else
#define CLONE_FLAGS args[0]
#endif

static struct sock_filter old[] = {
        LOAD(nr),
        REFUSE(SYS_pidfd_open),
        REFUSE(SYS_pidfd_send_signal),
        REFUSE(SYS_pidfd_getfd),
        REFUSE(SYS_close_range),
        REFUSE(SYS_clone3),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static struct sock_filter strict[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4),
        LOAD(CLONE_FLAGS),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, CLONE_FILES | CLONE_VM),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLONE_FILES, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

/* Of a 64-bit argument the half that counts comes first or last by byte order. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define ARGUMENT(i) (offsetof(struct seccomp_data, args[i]) + 4)
#else
#define ARGUMENT(i) offsetof(struct seccomp_data, args[i])
#endif

static struct sock_filter unshared[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(1)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(2)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_REUSEPORT, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO), /* | ERROR */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

#define PROGRAM(filter) { sizeof(filter) / sizeof(*(filter)), filter }

int main(int argc, char **argv)
{
	struct sock_fprog program = PROGRAM(old);
	int words = 1;

	if (argc > 1 && strcmp(argv[1], "-c") == 0) {
		program = (struct sock_fprog)PROGRAM(strict);
		words = 2;
	} else if (argc > 2 && strcmp(argv[1], "-r") == 0) {
		unshared[6].k |= (unsigned)atoi(argv[2]);
		program = (struct sock_fprog)PROGRAM(unshared);
		words = 3;
	}
	if (argc <= words) {
		fprintf(stderr, "usage: old_kernel [-c | -r ERROR] COMMAND...\n");
		return 2;
	}
	argv += words;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		perror("old_kernel: seccomp");
		return 1;
	}
	execvp(argv[0], argv);
	perror("old_kernel: execvp");
	return 127;
}

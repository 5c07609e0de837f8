/* A server whose accepts no library sees: by system calls of its own, or by io_uring.
 *   unseen ADDRESS PORT raw|uring [WORK MS]
 * Answers a line with "LINE SLOT PID"; says "nudged" when a client has sent an empty one. Ends with
 * 77 where the system has no io_uring. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NO_URING 77

static struct {
	int fd;
	uint32_t *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
} ring;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long system_call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
	                 : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
	              x2 __asm__("x2") = c, x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#else
#error "no system call by hand for this machine"
#endif
}

static int accept_raw(int listener)
{
	return (int)system_call(SYS_accept4, listener, 0, 0, SOCK_CLOEXEC);
}

static void *map(size_t size, uint64_t what)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, (off_t)what);

	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

static void make_ring(void)
{
	struct io_uring_params p;
	char *sq, *cq;

	memset(&p, 0, sizeof(p));
	ring.fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (ring.fd < 0) {
		perror("io_uring_setup");
		exit(NO_URING);
	}
	sq = map(p.sq_off.array + p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
	cq = map(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.sqes = map(p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring.sq_tail = (uint32_t *)(sq + p.sq_off.tail);
	ring.sq_mask = (uint32_t *)(sq + p.sq_off.ring_mask);
	ring.sq_array = (uint32_t *)(sq + p.sq_off.array);
	ring.cq_head = (uint32_t *)(cq + p.cq_off.head);
	ring.cq_tail = (uint32_t *)(cq + p.cq_off.tail);
	ring.cq_mask = (uint32_t *)(cq + p.cq_off.ring_mask);
	ring.cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
}

static int accept_uring(int listener)
{
	uint32_t tail = *ring.sq_tail, at = tail & *ring.sq_mask, head = *ring.cq_head;
	struct io_uring_sqe *e = &ring.sqes[at];
	int r;

	memset(e, 0, sizeof(*e));
	e->opcode = IORING_OP_ACCEPT;
	e->fd = listener;
	e->accept_flags = SOCK_CLOEXEC;
	ring.sq_array[at] = at;
	__atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
	r = (int)syscall(SYS_io_uring_enter, ring.fd, 1, 0, 0, NULL, 0);
	while (__atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE) == head)
		r = (int)syscall(SYS_io_uring_enter, ring.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL,
		                 0);
	if (r < 0 && errno != EINTR)
		die("io_uring_enter");
	r = ring.cqes[head & *ring.cq_mask].res;
	__atomic_store_n(ring.cq_head, head + 1, __ATOMIC_RELEASE);
	return r;
}

static void serve(int fd, int work_ms)
{
	struct timespec work = {.tv_sec = work_ms / 1000, .tv_nsec = work_ms % 1000 * 1000000L};
	const char *slot = getenv("SOCKSHARD_SLOT");
	char line[128], answer[256];
	ssize_t n = recv(fd, line, sizeof(line) - 1, 0);

	if (n == 1 && line[0] == '\n') { /* what the keeper's nudges say */
		printf("nudged\n");
		fflush(stdout);
	} else if (n > 0) {
		line[n] = '\0';
		line[strcspn(line, "\r\n")] = '\0';
		if (work_ms)
			nanosleep(&work, NULL);
		snprintf(answer, sizeof(answer), "%s %s %d\n", line, slot ? slot : "-",
		         (int)getpid());
		send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), uring, work_ms;

	if (argc < 4 || inet_pton(AF_INET, argv[1], &in.sin_addr) != 1) {
		fprintf(stderr, "unseen: the head of unseen.c says how\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	in.sin_port = htons((uint16_t)atoi(argv[2]));
	uring = strcmp(argv[3], "uring") == 0;
	work_ms = argc > 4 ? atoi(argv[4]) : 0;
	if (uring)
		make_ring();
	if (bind(listener, (struct sockaddr *)&in, sizeof(in)) < 0)
		die("bind");
	if (listen(listener, 511) < 0)
		die("listen");
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int fd = uring ? accept_uring(listener) : accept_raw(listener);

		if (fd >= 0)
			serve(fd, work_ms);
	}
}

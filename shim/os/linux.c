/* Linux: SO_REUSEPORT (3.9), classic BPF steering (4.5 UDP, 4.6 TCP), cookies and queues. The rules
 * with their kernel versions are in docs/PLATFORMS.md; listing sockets is linux_diag.c. */
#include "backend.h"
#include "linux_diag.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* For headers older than the kernel: uapi asm/socket.h of the architectures that Linux has. */
#ifndef SO_REUSEPORT
#if defined(__alpha__) || defined(__mips__) || defined(__hppa__) || defined(__sparc__)
#define SO_REUSEPORT 0x0200
#else
#define SO_REUSEPORT 15
#endif
#endif

#ifndef SO_ATTACH_REUSEPORT_CBPF
#if defined(__hppa__)
#define SO_ATTACH_REUSEPORT_CBPF 0x402C
#elif defined(__sparc__)
#define SO_ATTACH_REUSEPORT_CBPF 0x0035
#else
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#endif

#ifndef SO_DETACH_REUSEPORT_BPF
#if defined(__hppa__)
#define SO_DETACH_REUSEPORT_BPF 0x4042
#elif defined(__sparc__)
#define SO_DETACH_REUSEPORT_BPF 0x0047
#else
#define SO_DETACH_REUSEPORT_BPF 68
#endif
#endif

#ifndef SO_COOKIE
#define SO_COOKIE 57 /* asm-generic; since Linux 4.12 */
#endif

#define LINUX_MEMBERS_MAX 32768 /* net/core/sock_reuseport.c, reuseport_grow() */

/* Old kernels, other systems' Linux layers and seccomp profiles each have a word of their own for it.
 * What is not among them (ENOMEM, EBADF) says nothing about the system. */
static bool is_refusal(int r)
{
	return r == -ENOPROTOOPT || r == -EOPNOTSUPP || r == -EINVAL || r == -EPERM ||
	       r == -EACCES || r == -ENOSYS;
}

/* SO_REUSEPORT first: it is the one that can be refused, and then nothing has changed. SO_REUSEADDR
 * on TCP, because connections accepted by an earlier run without us block the port for sockets that
 * have only SO_REUSEPORT. Never on UDP: there it lets the newest socket steal everything. */
static int linux_share(const struct sys *sys, int fd, const struct addr *addr, char why[OS_WHY_MAX])
{
	int r = os_refuse(&os_linux, addr, why);

	if (r < 0)
		return r;
	r = backend_set(sys, fd, SO_REUSEPORT, true);
	if (is_refusal(r))
		return backend_why(why,
				   "SO_REUSEPORT is refused here (%s): a sandbox, a kernel before"
				   " 3.9 or another system's Linux layer",
				   strerror(-r));
	if (r == 0 && addr->proto == IPPROTO_TCP)
		r = backend_set(sys, fd, SO_REUSEADDR, true);
	return r;
}

static void linux_unshare(const struct sys *sys, int fd, const struct addr *addr, bool had_port,
			  bool had_addr)
{
	if (!had_port)
		backend_set(sys, fd, SO_REUSEPORT, false);
	if (!had_addr && addr->proto == IPPROTO_TCP)
		backend_set(sys, fd, SO_REUSEADDR, false);
}

static int linux_shared(const struct sys *sys, int fd)
{
	return backend_is_set(sys, fd, SO_REUSEPORT);
}

static int linux_detach(const struct sys *sys, int fd)
{
	int unused = 0;

	if (sys->setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof(unused)) == 0)
		return 0;
	if (errno == ENOENT) /* none was attached */
		return 0;
	return errno == ENOPROTOOPT ? -ENOTSUP : -errno;
}

static int linux_attach(const struct sys *sys, int fd, const void *program, unsigned n)
{
	struct sock_fprog prog;

	if (!program)
		return linux_detach(sys, fd);
	if (n == 0)
		return -EINVAL;
	if (n > BPF_MAXINSNS) /* .len has 16 bits only: a longer program would be cut */
		return -E2BIG;
	prog.len = (unsigned short)n;
	prog.filter = (struct sock_filter *)(uintptr_t)program; /* the kernel only reads it */
	if (sys->setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) == 0)
		return 0;
	return errno == ENOPROTOOPT ? -ENOTSUP : -errno;
}

static int linux_cookie(const struct sys *sys, int fd, uint64_t *ret_cookie)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (sys->getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return errno == ENOPROTOOPT ? -ENOTSUP : -errno;
	*ret_cookie = cookie;
	return 0;
}

/* On a listener tcpi_unacked is sk_ack_backlog and tcpi_sacked sk_max_ack_backlog (net/ipv4/tcp.c,
 * tcp_get_info); on any other socket they mean something else. */
static int linux_queue(const struct sys *sys, int fd, unsigned *ret_waiting, unsigned *ret_backlog)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (sys->getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return errno == ENOPROTOOPT ? -ENOTSUP : -errno;
	if (len < offsetof(struct tcp_info, tcpi_sacked) + sizeof(info.tcpi_sacked))
		return -ENOTSUP;
	if (info.tcpi_state != TCP_LISTEN)
		return -EINVAL;
	*ret_waiting = info.tcpi_unacked;
	*ret_backlog = info.tcpi_sacked;
	return 0;
}

const struct os os_linux = {
	.name = "Linux",
	.caps = OS_BALANCE_TCP | OS_BALANCE_UDP | OS_BALANCE_IPV6 | OS_STEER | OS_HANDOVER |
		OS_KEEPER | OS_LISTENERS,
	.dual_stack = true,
	.no_balance = NULL,
	.share = linux_share,
	.unshare = linux_unshare,
	.shared = linux_shared,
	.listen_in_bind = false,
	.members_max = LINUX_MEMBERS_MAX,
	.attach = linux_attach,
	.cookie = linux_cookie,
	.queue = linux_queue,
	.listeners_open = linux_diag_open,
	.listeners = linux_diag_listeners,
	.accepted = linux_diag_accepted,
	.half_open = linux_diag_half_open,
};

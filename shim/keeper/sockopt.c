/* See sockopt.h. What a connection has from its listener: sk_clone_lock() copies struct sock whole
 * (net/core/sock.c), so every option of SOL_SOCKET, IP and IPv6 that inet_csk_clone_lock() and
 * tcp_v4/v6_syn_recv_sock() do not reset; of TCP what tcp_create_openreq_child() and the request
 * (tcp_openreq_init_rwin()) leave. Man pages: socket(7), tcp(7), ip(7), ipv6(7). */
#include "sockopt.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define VALUE_MAX  256
#define FILTER_MAX 4096 /* instructions: BPF_MAXINSNS */

/* linux/tcp.h, struct tcp_ao_info_opt: its bytes, in the first version, Linux 6.7. */
#define AO_INFO_BYTES 48
/* linux/sock_diag.h, SK_MEMINFO_OPTMEM: the place in what SO_MEMINFO returns. */
#define MEMINFO_OPTION_MEMORY 6

/* Newer than the headers of some C libraries. */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_RESERVE_MEM
#define SO_RESERVE_MEM 73
#endif
#ifndef SO_TXREHASH
#define SO_TXREHASH 74
#endif
#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif
#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW    63
#define SO_TIMESTAMPNS_NEW  64
#define SO_TIMESTAMPING_NEW 65
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef TCP_AO_INFO
#define TCP_AO_INFO 40
#endif
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS    44
#define TCP_RTO_MIN_US    45
#define TCP_DELACK_MAX_US 46
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO      11
#define IPV6_FLOWINFO_SEND 33
#endif
#ifndef IPV6_2292HOPLIMIT
#define IPV6_2292PKTINFO  2
#define IPV6_2292HOPOPTS  3
#define IPV6_2292DSTOPTS  4
#define IPV6_2292RTHDR    5
#define IPV6_2292HOPLIMIT 8
#endif
#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884 31
#endif

enum kind {
	SAME,   /* what getsockopt says is what setsockopt wants */
	HALF,   /* the kernel doubles what it is told: socket(7), SO_RCVBUF */
	FILTER, /* counted in instructions: sk_get_filter() */
	KEYS,   /* -ENOENT without; with some it cannot be copied: tcp_ao_get_sock_info() */
	MEMORY, /* what the kernel keeps for options: what else differs, nobody can say or copy */
};

struct option {
	int level, name;
	const char *text; /* below SOCKOPT_NAME_MAX */
	enum kind kind;
};

#define OPTION(level, name) { level, name, #name, SAME }

/* In this order: SO_RCVLOWAT moves the receive buffer, SO_BUF_LOCK says that neither buffer is tuned
 * by the kernel, SO_LOCK_FILTER forbids a filter. SO_MEMINFO after all that takes memory: filters,
 * extension headers. Then what is left is TCP_MD5SIG's keys, which no getsockopt tells and each of which
 * is charged (tcp_md5_do_add()), or what BPF programs of the system keep with a socket. */
static const struct option options[] = {
	OPTION(SOL_SOCKET, SO_REUSEADDR),
	OPTION(SOL_SOCKET, SO_REUSEPORT),
	OPTION(SOL_SOCKET, SO_BINDTOIFINDEX),
	OPTION(SOL_SOCKET, SO_BINDTODEVICE),
	OPTION(SOL_SOCKET, SO_KEEPALIVE),
	OPTION(SOL_SOCKET, SO_RCVLOWAT),
	{ SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF", HALF },
	{ SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF", HALF },
	OPTION(SOL_SOCKET, SO_BUF_LOCK),
	OPTION(SOL_SOCKET, SO_RESERVE_MEM),
	OPTION(SOL_SOCKET, SO_RCVTIMEO),
	OPTION(SOL_SOCKET, SO_SNDTIMEO),
	OPTION(SOL_SOCKET, SO_LINGER),
	OPTION(SOL_SOCKET, SO_OOBINLINE),
	OPTION(SOL_SOCKET, SO_DEBUG),
	OPTION(SOL_SOCKET, SO_DONTROUTE),
	OPTION(SOL_SOCKET, SO_BROADCAST),
	OPTION(SOL_SOCKET, SO_NO_CHECK),
	OPTION(SOL_SOCKET, SO_MARK),
	OPTION(SOL_SOCKET, SO_RCVMARK),
	OPTION(SOL_SOCKET, SO_RCVPRIORITY),
	OPTION(SOL_SOCKET, SO_BUSY_POLL),
	OPTION(SOL_SOCKET, SO_PREFER_BUSY_POLL),
	OPTION(SOL_SOCKET, SO_BUSY_POLL_BUDGET),
	OPTION(SOL_SOCKET, SO_TIMESTAMP),
	OPTION(SOL_SOCKET, SO_TIMESTAMPNS),
	OPTION(SOL_SOCKET, SO_TIMESTAMP_NEW),
	OPTION(SOL_SOCKET, SO_TIMESTAMPNS_NEW),
	OPTION(SOL_SOCKET, SO_TIMESTAMPING),
	OPTION(SOL_SOCKET, SO_TIMESTAMPING_NEW),
	OPTION(SOL_SOCKET, SO_PASSCRED),
	OPTION(SOL_SOCKET, SO_PASSSEC),
	OPTION(SOL_SOCKET, SO_PEEK_OFF),
	OPTION(SOL_SOCKET, SO_RXQ_OVFL),
	OPTION(SOL_SOCKET, SO_NOFCS),
	OPTION(SOL_SOCKET, SO_WIFI_STATUS),
	OPTION(SOL_SOCKET, SO_SELECT_ERR_QUEUE),
	OPTION(SOL_SOCKET, SO_MAX_PACING_RATE),
	OPTION(SOL_SOCKET, SO_ZEROCOPY),
	OPTION(SOL_SOCKET, SO_TXTIME),
	OPTION(SOL_SOCKET, SO_TXREHASH),
	{ SOL_SOCKET, SO_GET_FILTER, "SO_ATTACH_FILTER", FILTER },
	OPTION(SOL_SOCKET, SO_LOCK_FILTER),

	OPTION(IPPROTO_IPV6, IPV6_V6ONLY),
	OPTION(IPPROTO_IPV6, IPV6_TCLASS),
	OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS),
	OPTION(IPPROTO_IPV6, IPV6_MINHOPCOUNT),
	OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER),
	OPTION(IPPROTO_IPV6, IPV6_DONTFRAG),
	OPTION(IPPROTO_IPV6, IPV6_FREEBIND),
	OPTION(IPPROTO_IPV6, IPV6_TRANSPARENT),
	OPTION(IPPROTO_IPV6, IPV6_UNICAST_IF),
	OPTION(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES),
	OPTION(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL),
	OPTION(IPPROTO_IPV6, IPV6_FLOWINFO),
	OPTION(IPPROTO_IPV6, IPV6_FLOWINFO_SEND),
	OPTION(IPPROTO_IPV6, IPV6_RECVERR),
	OPTION(IPPROTO_IPV6, IPV6_RECVERR_RFC4884),
	OPTION(IPPROTO_IPV6, IPV6_RECVPKTINFO),
	OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
	OPTION(IPPROTO_IPV6, IPV6_RECVTCLASS),
	OPTION(IPPROTO_IPV6, IPV6_RECVRTHDR),
	OPTION(IPPROTO_IPV6, IPV6_RECVHOPOPTS),
	OPTION(IPPROTO_IPV6, IPV6_RECVDSTOPTS),
	OPTION(IPPROTO_IPV6, IPV6_RECVPATHMTU),
	OPTION(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR),
	OPTION(IPPROTO_IPV6, IPV6_RECVFRAGSIZE),
	OPTION(IPPROTO_IPV6, IPV6_HOPOPTS),
	OPTION(IPPROTO_IPV6, IPV6_RTHDRDSTOPTS),
	OPTION(IPPROTO_IPV6, IPV6_RTHDR),
	OPTION(IPPROTO_IPV6, IPV6_DSTOPTS),
	OPTION(IPPROTO_IPV6, IPV6_2292PKTINFO),
	OPTION(IPPROTO_IPV6, IPV6_2292HOPLIMIT),
	OPTION(IPPROTO_IPV6, IPV6_2292RTHDR),
	OPTION(IPPROTO_IPV6, IPV6_2292HOPOPTS),
	OPTION(IPPROTO_IPV6, IPV6_2292DSTOPTS),

	OPTION(IPPROTO_IP, IP_TOS),
	OPTION(SOL_SOCKET, SO_PRIORITY), /* after IP_TOS, which sets it: ip(7) */
	OPTION(IPPROTO_IP, IP_TTL),
	OPTION(IPPROTO_IP, IP_MINTTL),
	OPTION(IPPROTO_IP, IP_MTU_DISCOVER),
	OPTION(IPPROTO_IP, IP_FREEBIND),
	OPTION(IPPROTO_IP, IP_TRANSPARENT),
	OPTION(IPPROTO_IP, IP_UNICAST_IF),
	OPTION(IPPROTO_IP, IP_OPTIONS),
	OPTION(IPPROTO_IP, IP_PKTINFO),
	OPTION(IPPROTO_IP, IP_CHECKSUM),
	OPTION(IPPROTO_IP, IP_PASSSEC),
	OPTION(IPPROTO_IP, IP_RECVERR),
	OPTION(IPPROTO_IP, IP_RECVERR_RFC4884),
	OPTION(IPPROTO_IP, IP_RECVOPTS),
	OPTION(IPPROTO_IP, IP_RETOPTS),
	OPTION(IPPROTO_IP, IP_RECVTOS),
	OPTION(IPPROTO_IP, IP_RECVTTL),
	OPTION(IPPROTO_IP, IP_RECVORIGDSTADDR),
	OPTION(IPPROTO_IP, IP_RECVFRAGSIZE),

	OPTION(IPPROTO_TCP, TCP_NODELAY),
	OPTION(IPPROTO_TCP, TCP_CORK),
	OPTION(IPPROTO_TCP, TCP_MAXSEG),
	OPTION(IPPROTO_TCP, TCP_KEEPIDLE),
	OPTION(IPPROTO_TCP, TCP_KEEPINTVL),
	OPTION(IPPROTO_TCP, TCP_KEEPCNT),
	OPTION(IPPROTO_TCP, TCP_SYNCNT),
	OPTION(IPPROTO_TCP, TCP_LINGER2),
	OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT),
	OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP),
	OPTION(IPPROTO_TCP, TCP_CONGESTION),
	OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
	OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
	OPTION(IPPROTO_TCP, TCP_QUICKACK),
	OPTION(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS),
	OPTION(IPPROTO_TCP, TCP_THIN_DUPACK),
	OPTION(IPPROTO_TCP, TCP_SAVE_SYN),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN_KEY),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE),
	OPTION(IPPROTO_TCP, TCP_INQ),
	OPTION(IPPROTO_TCP, TCP_TX_DELAY),
	OPTION(IPPROTO_TCP, TCP_RTO_MAX_MS),
	OPTION(IPPROTO_TCP, TCP_RTO_MIN_US),
	OPTION(IPPROTO_TCP, TCP_DELACK_MAX_US),
	OPTION(IPPROTO_TCP, TCP_ULP),
	{ IPPROTO_TCP, TCP_AO_INFO, "TCP_AO_ADD_KEY", KEYS },

	{ SOL_SOCKET, SO_MEMINFO, "TCP_MD5SIG (or BPF storage)", MEMORY },
};

/* -> instructions; -EACCES: an eBPF program, which has no text. */
static int get_filter(const struct sys *sys, int fd, struct sock_filter insns[FILTER_MAX])
{
	socklen_t n = 0; /* asks how many there are */

	if (sys->getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) == -1)
		return -errno;
	if (n > FILTER_MAX)
		return -E2BIG;
	if (n > 0 && sys->getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, insns, &n) == -1)
		return -errno;
	return (int)n;
}

static bool is_same_filter(const struct sys *sys, int from, int to)
{
	static struct sock_filter want[FILTER_MAX], is[FILTER_MAX]; /* of the one thread there is */
	int n = get_filter(sys, from, want);

	return n == get_filter(sys, to, is) &&
	       (n <= 0 || memcmp(want, is, (size_t)n * sizeof(want[0])) == 0);
}

static int copy_filter(const struct sys *sys, int from, int to)
{
	static struct sock_filter insns[FILTER_MAX];
	struct sock_fprog program = { .filter = insns };
	int n = get_filter(sys, from, insns);

	if (n < 0)
		return n;
	program.len = (unsigned short)n;
	return sys->setsockopt(to, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == -1
	               ? -errno
	               : 0;
}

static bool has_keys(const struct sys *sys, int fd)
{
	uint8_t info[AO_INFO_BYTES] = { 0 };
	socklen_t len = sizeof(info);

	return sys->getsockopt(fd, IPPROTO_TCP, TCP_AO_INFO, info, &len) == 0;
}

/* -> bytes; 0 as well where the kernel does not tell: before Linux 4.12. Of UDP it is not asked: what
 * a sendmsg() under way brings is counted there, too. */
static uint32_t option_memory(const struct sys *sys, int fd)
{
	uint32_t info[MEMINFO_OPTION_MEMORY + 1] = { 0 };
	int type = 0;
	socklen_t len = sizeof(type);

	if (sys->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1 || type != SOCK_STREAM)
		return 0;
	len = sizeof(info);
	if (sys->getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) == -1 || len < sizeof(info))
		return 0;
	return info[MEMINFO_OPTION_MEMORY];
}

/* -> false: this kernel does not know the option, or not for such a socket. */
static bool get(const struct sys *sys, int fd, const struct option *o, uint8_t value[VALUE_MAX],
                socklen_t *ret_len)
{
	*ret_len = VALUE_MAX;
	memset(value, 0, VALUE_MAX);
	return sys->getsockopt(fd, o->level, o->name, value, ret_len) == 0 && *ret_len <= VALUE_MAX;
}

/* Options that this kernel does not know are as they are in both. */
static bool is_same(const struct sys *sys, int from, int to, const struct option *o)
{
	uint8_t want[VALUE_MAX], is[VALUE_MAX];
	socklen_t want_len, is_len;

	if (o->kind == FILTER)
		return is_same_filter(sys, from, to);
	if (o->kind == KEYS)
		return has_keys(sys, from) == has_keys(sys, to);
	if (o->kind == MEMORY)
		return option_memory(sys, from) == option_memory(sys, to);
	if (!get(sys, from, o, want, &want_len))
		return true;
	return get(sys, to, o, is, &is_len) && is_len == want_len && memcmp(is, want, want_len) == 0;
}

static int copy(const struct sys *sys, int from, int to, const struct option *o)
{
	uint8_t value[VALUE_MAX];
	socklen_t len;
	int doubled;

	if (o->kind == FILTER)
		return copy_filter(sys, from, to);
	if (o->kind == KEYS || o->kind == MEMORY)
		return -EOPNOTSUPP;
	if (!get(sys, from, o, value, &len))
		return 0;
	if (o->kind == HALF) {
		memcpy(&doubled, value, sizeof(doubled));
		doubled /= 2;
		memcpy(value, &doubled, sizeof(doubled));
	}
	return sys->setsockopt(to, o->level, o->name, value, len) == -1 ? -errno : 0;
}

int sockopt_copy(const struct sys *sys, int from, int to, char ret_name[SOCKOPT_NAME_MAX])
{
	const struct option *o = options, *end = options + sizeof(options) / sizeof(options[0]);
	int r = 0;

	for (; o < end && r == 0; o++) {
		if (!is_same(sys, from, to, o))
			r = copy(sys, from, to, o);
		if (r < 0)
			(void)snprintf(ret_name, SOCKOPT_NAME_MAX, "%s", o->text);
	}
	for (o = options; o < end && r == 0; o++) /* one option may change another, or be cut */
		if (!is_same(sys, from, to, o)) {
			(void)snprintf(ret_name, SOCKOPT_NAME_MAX, "%s", o->text);
			r = -EOPNOTSUPP;
		}
	return r;
}

bool sockopt_differs(const struct sys *sys, int one, int other, char ret_name[SOCKOPT_NAME_MAX])
{
	for (const struct option *o = options; o < options + sizeof(options) / sizeof(options[0]); o++)
		if (!is_same(sys, one, other, o)) {
			(void)snprintf(ret_name, SOCKOPT_NAME_MAX, "%s", o->text);
			return true;
		}
	return false;
}

/* sock_diag: one dump for each address family, filtered by port and state in the kernel. The parser
 * does no I/O and trusts no length. */
#include "linux_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DIAG_ATTEMPTS	 4
#define DIAG_TIMEOUT_MS	 200
#define DIAG_BUFFER_SIZE 32768 /* netlink_dump() fills no more at a time */

static const uint8_t *diag_attribute(const uint8_t *p, size_t len, unsigned type, size_t size)
{
	struct nlattr a;
	size_t step;

	while (len >= sizeof(a)) {
		memcpy(&a, p, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > len)
			return NULL;
		if ((a.nla_type & NLA_TYPE_MASK) == type && a.nla_len >= sizeof(a) + size)
			return p + sizeof(a);
		step = NLA_ALIGN((size_t)a.nla_len);
		if (step >= len)
			return NULL;
		p += step;
		len -= step;
	}
	return NULL;
}

static uint32_t diag_states(const struct linux_diag_query *query)
{
	if (query->states)
		return query->states;
	return 1u << (query->proto == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE);
}

static void diag_entry(const struct inet_diag_msg *m, const uint8_t *attributes, size_t len,
		       uint8_t proto, struct os_listener *ret)
{
	const uint8_t *v6only = NULL;

	memset(ret, 0, sizeof(*ret));
	ret->addr.proto = proto;
	ret->addr.family = m->idiag_family;
	ret->addr.port = ntohs(m->id.idiag_sport);
	ret->addr.ifindex = m->id.idiag_if;
	memcpy(ret->addr.ip, m->id.idiag_src, m->idiag_family == AF_INET ? 4 : 16);
	if (m->idiag_family == AF_INET6)
		v6only = diag_attribute(attributes, len, INET_DIAG_SKV6ONLY, 1);
	ret->addr.v6only = v6only && *v6only;
	ret->cookie = m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32;
	ret->uid = m->idiag_uid;
	ret->inode = m->idiag_inode;
	ret->retries = m->idiag_retrans;
	ret->peer.family = m->idiag_family;
	ret->peer.port = ntohs(m->id.idiag_dport);
	memcpy(ret->peer.ip, m->id.idiag_dst, m->idiag_family == AF_INET ? 4 : 16);
	ret->closing = m->idiag_state != TCP_ESTABLISHED && m->idiag_state != TCP_LISTEN;
}

/* seen: entries of earlier buffers. A socket that joins between two of them shifts the rest by one,
 * and the last one is told again. */
static int diag_socket(const uint8_t *p, size_t len, const struct linux_diag_query *query,
		       struct linux_diag_list *list, size_t seen)
{
	struct inet_diag_msg m;
	struct os_listener found;

	if (len < sizeof(m))
		return -EBADMSG;
	memcpy(&m, p, sizeof(m));
	if (m.idiag_family != query->family || ntohs(m.id.idiag_sport) != query->port ||
	    m.idiag_state > 31 || !(diag_states(query) & 1u << m.idiag_state))
		return 0;
	diag_entry(&m, p + sizeof(m), len - sizeof(m), query->proto, &found);
	for (size_t i = 0; i < seen; i++) {
		if (list->entry[i].cookie == found.cookie)
			return 0;
	}
	if (list->n == list->max) {
		list->full = true;
		return 0; /* the dump must still be read to its end */
	}
	list->entry[list->n++] = found;
	return 0;
}

static int diag_error(const uint8_t *p, size_t len)
{
	int error;

	if (len < sizeof(error))
		return -EBADMSG;
	memcpy(&error, p, sizeof(error));
	if (error > 0 || error < -4095) /* the kernel's MAX_ERRNO */
		return -EBADMSG;
	if (error == -ENOENT || error == -EPROTONOSUPPORT) /* no such family, no udp_diag module */
		return -ENOTSUP;
	return error;
}

static int diag_message(const struct nlmsghdr *h, const uint8_t *p, size_t len,
			const struct linux_diag_query *query, struct linux_diag_list *list,
			size_t seen)
{
	int r;

	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		list->interrupted = true;
	switch (h->nlmsg_type) {
	case SOCK_DIAG_BY_FAMILY:
		return diag_socket(p, len, query, list, seen);
	case NLMSG_ERROR:
		return diag_error(p, len);
	case NLMSG_DONE: /* carries the dump's own error */
		r = len == 0 ? 0 : diag_error(p, len);
		return r < 0 ? r : 1;
	case NLMSG_OVERRUN:
		list->interrupted = true;
		return 0;
	default:
		return 0;
	}
}

int linux_diag_parse(const void *buf, size_t len, const struct linux_diag_query *query,
		     struct linux_diag_list *list)
{
	const uint8_t *p = buf;
	const size_t seen = list->n;
	struct nlmsghdr h;
	size_t step;
	int r;

	while (len > 0) {
		if (len < sizeof(h))
			return -EBADMSG;
		memcpy(&h, p, sizeof(h));
		if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > len)
			return -EBADMSG;
		if (h.nlmsg_seq == query->seq) { /* else: a dump that was given up */
			r = diag_message(&h, p + sizeof(h), h.nlmsg_len - sizeof(h), query, list,
					 seen);
			if (r != 0)
				return r;
		}
		step = NLMSG_ALIGN((size_t)h.nlmsg_len);
		if (step > len)
			step = len;
		p += step;
		len -= step;
	}
	return 0;
}

int linux_diag_open(void)
{
	const struct timeval timeout = {.tv_usec = DIAG_TIMEOUT_MS * 1000L};
	int fd, r;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return errno == EPROTONOSUPPORT || errno == EAFNOSUPPORT ? -ENOTSUP : -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int64_t diag_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Bytes of one datagram that the kernel sent; 0: nothing of use; -ETIMEDOUT; -errno. */
static ssize_t diag_receive(int fd, void *buf, size_t size, int flags)
{
	struct sockaddr_nl from = {.nl_pid = UINT32_MAX};
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n = recvmsg(fd, &msg, flags);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (n == 0)
		return -ETIMEDOUT;
	if (msg.msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	return from.nl_pid == 0 ? n : 0; /* any process may write to a netlink socket */
}

/* A dump that was given up goes on when its socket is read, and the next one gets EBUSY until it is
 * through. */
static void diag_discard(int fd, void *buf, size_t size)
{
	while (diag_receive(fd, buf, size, MSG_DONTWAIT) >= 0)
		;
}

static int diag_send(int fd, const struct linux_diag_query *query)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} m;
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	memset(&m, 0, sizeof(m));
	m.h.nlmsg_len = sizeof(m);
	m.h.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	m.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	m.h.nlmsg_seq = query->seq;
	m.req.sdiag_family = query->family;
	m.req.sdiag_protocol = query->proto;
	m.req.idiag_states = diag_states(query);
	m.req.id.idiag_sport = htons(query->port);
	m.req.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	m.req.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (sendto(fd, &m, sizeof(m), 0, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	return 0;
}

static int diag_dump(int fd, const struct linux_diag_query *query, struct linux_diag_list *list)
{
	uint8_t buf[DIAG_BUFFER_SIZE];
	const int64_t deadline_ms = diag_now_ms() + DIAG_TIMEOUT_MS;
	ssize_t n;
	int r;

	diag_discard(fd, buf, sizeof(buf));
	r = diag_send(fd, query);
	while (r == 0) {
		n = diag_receive(fd, buf, sizeof(buf), 0);
		if (n == -ENOBUFS) { /* answers were dropped */
			list->interrupted = true;
			return 0;
		}
		if (n < 0)
			return (int)n;
		r = linux_diag_parse(buf, (size_t)n, query, list);
		if (r == 0 && diag_now_ms() >= deadline_ms)
			return -ETIMEDOUT;
	}
	return r < 0 ? r : 0;
}

static int diag_family(int fd, struct linux_diag_query *query, struct linux_diag_list *list)
{
	static _Atomic uint32_t last_seq;
	const size_t start = list->n;
	int r;

	for (int i = 0; i < DIAG_ATTEMPTS; i++) {
		list->n = start;
		list->full = false;
		list->interrupted = false;
		query->seq = atomic_fetch_add(&last_seq, 1) + 1;
		r = diag_dump(fd, query, list);
		if (r < 0)
			return r;
		if (!list->interrupted)
			return list->full ? -E2BIG : 0;
	}
	return -EAGAIN;
}

static int diag_both(int diag_fd, struct linux_diag_query *query, struct os_listener *ret, size_t max)
{
	struct linux_diag_list list = {.entry = ret, .max = max};
	int r;

	query->family = AF_INET;
	r = diag_family(diag_fd, query, &list);
	if (r < 0)
		return r;
	query->family = AF_INET6;
	r = diag_family(diag_fd, query, &list);
	return r < 0 ? r : (int)list.n;
}

int linux_diag_listeners(int diag_fd, uint8_t proto, uint16_t port, struct os_listener *ret,
			 size_t max)
{
	struct linux_diag_query query = {.proto = proto, .port = port};

	if (port == 0 || (proto != IPPROTO_TCP && proto != IPPROTO_UDP))
		return -EINVAL;
	return diag_both(diag_fd, &query, ret, max);
}

int linux_diag_half_open(int diag_fd, uint16_t port, struct os_listener *ret, size_t max)
{
	struct linux_diag_query query = {
		.proto = IPPROTO_TCP, .port = port, .states = 1u << TCP_SYN_RECV};

	if (port == 0)
		return -EINVAL;
	return diag_both(diag_fd, &query, ret, max);
}

int linux_diag_accepted(int diag_fd, uint8_t family, uint16_t port, struct os_listener *ret,
			size_t max)
{
	struct linux_diag_query query = {.family = family,
					 .proto = IPPROTO_TCP,
					 .port = port,
					 .states = 1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 |
						   1u << TCP_FIN_WAIT2 | 1u << TCP_TIME_WAIT};
	struct linux_diag_list list = {.entry = ret, .max = max};
	int n, kept = 0;

	if (port == 0)
		return -EINVAL;
	n = diag_family(diag_fd, &query, &list);
	n = n < 0 ? n : (int)list.n;
	/* Established without an inode: it waits in a queue still. */
	for (int i = 0; i < n; i++)
		if (ret[i].closing || ret[i].inode != 0)
			ret[kept++] = ret[i];
	return n < 0 ? n : kept;
}

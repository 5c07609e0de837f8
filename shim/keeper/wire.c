/* Packing, checking and moving of wire packets. Trusts nothing that came from the other side. */
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

/* min: the body of the first version, which every peer must send; max: what this build knows. */
static const struct {
	uint16_t min, max;
} body_of[WIRE_TYPES] = {
#define BODY(type) { sizeof(type), sizeof(type) }
	[WIRE_HELLO] = { offsetof(struct wire_hello, vault), sizeof(struct wire_hello) },
	[WIRE_RESERVE] = { offsetof(struct wire_reserve, own_program), sizeof(struct wire_reserve) },
	[WIRE_JOIN] = BODY(struct wire_join),
	[WIRE_LEAVE] = BODY(struct wire_leave_body),
	[WIRE_CLEAN_EXIT] = BODY(struct wire_leave_body),
	[WIRE_CLAIM] = { offsetof(struct wire_claim, cookie), sizeof(struct wire_claim) },
	[WIRE_REGISTER] = BODY(struct wire_register),
	[WIRE_GIVE_UP] = BODY(struct wire_slot),
	[WIRE_STATUS_GROUP] = BODY(struct wire_status_group),
	[WIRE_STATUS_SLOT] = { offsetof(struct wire_status_slot, parent),
	                       sizeof(struct wire_status_slot) },
	[WIRE_STATUS_STRANGER] = BODY(struct wire_status_stranger),
	[WIRE_WAKE] = BODY(struct wire_slot),
	[WIRE_EVENT_LIVE] = BODY(struct wire_slot),
	[WIRE_EVENT_GONE] = BODY(struct wire_slot),
	[WIRE_REJOIN] = { offsetof(struct wire_rejoin, order), sizeof(struct wire_rejoin) },
	[WIRE_ASK] = BODY(struct wire_ask),
	[WIRE_GIVEN] = BODY(struct wire_given),
	[WIRE_TAKEN] = BODY(struct wire_given),
	[WIRE_JOINED] = { offsetof(struct wire_joined, made), sizeof(struct wire_joined) },
	[WIRE_STATUS_LAUNCHER] = BODY(struct wire_status_launcher),
#undef BODY
};

_Static_assert(sizeof(struct wire_head) == 16, "the head is the same in every version");
_Static_assert(sizeof(struct wire_packet) >= WIRE_MAX, "every body fits");

int wire_body_size(uint16_t type)
{
	if (type == 0 || type >= WIRE_TYPES)
		return -EPROTO;
	return body_of[type].max;
}

int wire_check(const void *bytes, size_t n, struct wire_packet *ret_packet)
{
	struct wire_head head;
	size_t body;

	if (n < sizeof(head) || n > WIRE_MAX)
		return -EPROTO;
	memcpy(&head, bytes, sizeof(head));
	if (head.magic != WIRE_MAGIC || head.length != n || head.type == 0 || head.type >= WIRE_TYPES)
		return -EPROTO;
	body = n - sizeof(head);
	if (body < body_of[head.type].min)
		return -EPROTO;
	if (body > body_of[head.type].max)
		body = body_of[head.type].max; /* fields a later version appended */
	ret_packet->head = head;
	memset(&ret_packet->body, 0, sizeof(ret_packet->body));
	memcpy(&ret_packet->body, (const uint8_t *)bytes + sizeof(head), body);
	return 0;
}

int wire_send(const struct sys *sys, int fd, const struct wire_packet *packet, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
	} control;
	struct wire_head head = packet->head;
	struct iovec iov[2];
	struct msghdr msg;
	int body = wire_body_size(head.type);
	ssize_t n;

	if (body < 0)
		return body;
	head.magic = WIRE_MAGIC;
	head.length = (uint16_t)(sizeof(head) + (size_t)body);
	memset(&msg, 0, sizeof(msg));
	iov[0].iov_base = &head;
	iov[0].iov_len = sizeof(head);
	iov[1].iov_base = (void *)(uintptr_t)&packet->body;
	iov[1].iov_len = (size_t)body;
	msg.msg_iov = iov;
	msg.msg_iovlen = 2;
	if (packet->n_fds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * packet->n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * packet->n_fds);
		memcpy(CMSG_DATA(c), packet->fds, sizeof(int) * packet->n_fds);
	}
	do {
		n = sys->sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
	} while (n == -1 && errno == EINTR);
	return n == -1 ? -errno : 0;
}

/* Every descriptor of a message is taken, so that none is forgotten; too many are closed. */
static int take_fds(const struct sys *sys, struct msghdr *msg, struct wire_packet *packet)
{
	int r = (msg->msg_flags & MSG_CTRUNC) ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (packet->n_fds < WIRE_FDS_MAX) {
				packet->fds[packet->n_fds++] = fd;
			} else {
				sys->close(fd);
				r = -EPROTO;
			}
		}
	}
	return r;
}

int wire_receive(const struct sys *sys, int fd, int flags, struct wire_packet *ret_packet)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
	} control;
	uint8_t bytes[WIRE_MAX];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg;
	ssize_t n;
	int r;

	ret_packet->n_fds = 0;
	for (unsigned i = 0; i < WIRE_FDS_MAX; i++)
		ret_packet->fds[i] = -1;
	memset(&msg, 0, sizeof(msg));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control.bytes;
	msg.msg_controllen = sizeof(control.bytes);
	do {
		n = sys->recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return -errno;
	r = take_fds(sys, &msg, ret_packet);
	if (n == 0 && ret_packet->n_fds == 0)
		return r;
	if (r == 0)
		r = (msg.msg_flags & MSG_TRUNC) ? -EPROTO : wire_check(bytes, (size_t)n, ret_packet);
	if (r < 0) {
		wire_close_fds(sys, ret_packet);
		return r;
	}
	return 1;
}

void wire_close_fds(const struct sys *sys, struct wire_packet *packet)
{
	for (unsigned i = 0; i < packet->n_fds; i++) {
		if (packet->fds[i] >= 0)
			sys->close(packet->fds[i]);
		packet->fds[i] = -1;
	}
	packet->n_fds = 0;
}

/* recvmsg(2): a listener that another process sends. Without control messages nothing is looked at. */
#include "hook.h"

#include <sys/socket.h>

/* Apart, so that the common call has no frame on the stack. */
static __attribute__((noinline)) ssize_t look(struct msghdr *msg, ssize_t n)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			hook_received(CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return n;
}

HOOK_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = sys_get()->recvmsg(fd, msg, flags);

	if (__builtin_expect(n < 0 || msg->msg_controllen == 0, 1))
		return n;
	return look(msg, n);
}

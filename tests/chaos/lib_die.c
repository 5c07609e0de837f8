/* Preloaded behind ours: the process is killed when it tells the keeper that a given connection is its
 * own now, just before that is sent or just after.
 *   CHAOS_DIE=before|after   CHAOS_DIE_FILE=FILE: dies only who can remove it: one for each FILE made */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../shim/keeper/wire.h"

static ssize_t (*next_sendmsg)(int fd, const struct msghdr *msg, int flags);

__attribute__((constructor)) static void find(void)
{
	*(void **)&next_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
}

static int is_taken(const struct msghdr *msg)
{
	struct wire_head head;

	if (msg->msg_iovlen < 1 || msg->msg_iov[0].iov_len < sizeof(head))
		return 0;
	memcpy(&head, msg->msg_iov[0].iov_base, sizeof(head));
	return head.magic == WIRE_MAGIC && head.type == WIRE_TAKEN;
}

static void die_now(const char *when)
{
	const char *wanted = getenv("CHAOS_DIE"), *file = getenv("CHAOS_DIE_FILE");

	if (wanted && file && strcmp(wanted, when) == 0 && unlink(file) == 0)
		kill(getpid(), SIGKILL);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	int taken = is_taken(msg);
	ssize_t r;

	if (taken)
		die_now("before");
	r = next_sendmsg(fd, msg, flags);
	if (taken)
		die_now("after");
	return r;
}

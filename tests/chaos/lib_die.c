/* Preloaded behind ours: at a shard's question (ASK) or its acknowledgement of a given connection
 * (TAKEN) something happens, once for each FILE made, to whoever can remove it.
 *   CHAOS_DIE=ask|before|after|stop   CHAOS_DIE_FILE=FILE
 * ask: killed before it asks; before, after: killed before or after it acknowledges; stop: the
 * keeper is stopped before the acknowledgement */
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

static int type_of(const struct msghdr *msg)
{
	struct wire_head head;

	if (msg->msg_iovlen < 1 || msg->msg_iov[0].iov_len < sizeof(head))
		return 0;
	memcpy(&head, msg->msg_iov[0].iov_base, sizeof(head));
	return head.magic == WIRE_MAGIC ? head.type : 0;
}

static int is_time(const char *when)
{
	const char *wanted = getenv("CHAOS_DIE"), *file = getenv("CHAOS_DIE_FILE");

	return wanted && file && strcmp(wanted, when) == 0 && unlink(file) == 0;
}

static void stop_peer(int fd)
{
	struct ucred keeper;
	socklen_t len = sizeof(keeper);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &keeper, &len) == 0)
		kill(keeper.pid, SIGSTOP);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	int type = type_of(msg);
	ssize_t r;

	if ((type == WIRE_ASK && is_time("ask")) || (type == WIRE_TAKEN && is_time("before")))
		kill(getpid(), SIGKILL);
	if (type == WIRE_TAKEN && is_time("stop"))
		stop_peer(fd);
	r = next_sendmsg(fd, msg, flags);
	if (type == WIRE_TAKEN && is_time("after"))
		kill(getpid(), SIGKILL);
	return r;
}

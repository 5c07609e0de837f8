/* Socket options that a listener hands on to what it accepts, or that shape what its queue takes:
 * copied from one socket to another of the same kind. */
#ifndef SOCKSHARD_KEEPER_SOCKOPT_H
#define SOCKSHARD_KEEPER_SOCKOPT_H

#include <stdbool.h>

#include "../sys/sys.h"

#define SOCKOPT_NAME_MAX 32

/**
 * sockopt_copy - make a new socket like another one
 * @from: of any state; @to: just made, same family and type, neither bound nor connected
 * @ret_name: on failure the option that cannot be copied
 *
 * Only what differs is set, and then compared again. Refused: TCP_AO keys; eBPF filters by
 * SO_ATTACH_BPF (as SO_ATTACH_FILTER); TCP_MD5SIG keys, which the kernel tells nobody, by the memory
 * that it charges to the socket for them (SO_MEMINFO, Linux 4.12; without it they are not seen). Not
 * seen: IP_XFRM_POLICY and its like. Not copied: O_NONBLOCK and what else belongs to the open file;
 * SO_INCOMING_CPU, which says where one socket's connections arrive; the control group and the
 * security label, which are of whoever made the socket.
 * Returns 0; -EOPNOTSUPP: it was set and differs all the same; -errno of setsockopt(2).
 */
int sockopt_copy(const struct sys *sys, int from, int to, char ret_name[SOCKOPT_NAME_MAX]);

/**
 * sockopt_differs - is there an option in which two sockets differ
 * @ret_name: the first one. Of keys it is known that one has none, or memory for more, not which
 */
bool sockopt_differs(const struct sys *sys, int one, int other, char ret_name[SOCKOPT_NAME_MAX]);

#endif

/* A network namespace of its own for `check --run`. Linux: namespaces(7). */
#ifndef SOCKSHARD_CLI_CHECK_SPACE_H
#define SOCKSHARD_CLI_CHECK_SPACE_H

#define CHECK_SPACE_WHY_MAX 320

/**
 * check_space_enter - leave the network of this process for an empty one, for ever
 *
 * Root makes a network namespace; others, and root without the right to, a user namespace too, in
 * which user and group are themselves and nobody else exists. Its loopback device is up and has the
 * host's addresses as well, so that what binds one of them can. The process must have one thread.
 * Returns 0; -errno and one line in why: the process is to start nothing then.
 */
int check_space_enter(char why[CHECK_SPACE_WHY_MAX]);

#endif

/* Sees what a command and all its descendants do with sockets: a seccomp filter that lets every
 * call through, but tells us of some of them before (seccomp_unotify(2), Linux 5.5). Changes no
 * call. */
#ifndef SOCKSHARD_CLI_CHECK_WATCH_H
#define SOCKSHARD_CLI_CHECK_WATCH_H

#include <pthread.h>
#include <sys/types.h>

#include "check_dry.h"
#include "elf.h"

/**
 * check_watch_install - in the new process, before exec: every call of the list waits for us
 * @library: of the machine that the command is for
 *
 * Returns a descriptor (close-on-exec) to be fetched by check_watch_fetch(); -errno.
 */
int check_watch_install(const struct elf_info *library);

/** check_watch_fetch - a copy of a descriptor of another process; -errno */
int check_watch_fetch(pid_t pid, int fd);

/**
 * check_watch_take - the calls that wait: note what they mean, let them go on
 * @lock: held while d is used, and not while a call is fetched
 *
 * A call that has not been fetched is interrupted by a signal, as the real one may not be (fork):
 * so this is to be called by a thread that does nothing else. Returns 0; -errno: none is there.
 */
int check_watch_take(int listener, struct check_dry *d, pthread_mutex_t *lock);

#endif

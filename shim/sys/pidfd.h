/* Numbers of the pidfd calls for headers older than them, of all but alpha and mips: there ENOSYS. */
#ifndef SOCKSHARD_SYS_PIDFD_H
#define SOCKSHARD_SYS_PIDFD_H

#include <sys/syscall.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

#endif

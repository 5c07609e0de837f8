/* What /proc and a pidfd tell about another process. Read-only; pids are of our own pid namespace. */
#ifndef SOCKSHARD_KEEPER_PROCESS_H
#define SOCKSHARD_KEEPER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** process_pidfd_pid - whose pidfd this is: the pid, 0: of another namespace; -EBADF: none, -ESRCH */
int process_pidfd_pid(int pidfd);

/** process_exiting - has it begun to end (PF_EXITING), or is it gone */
bool process_exiting(uint32_t pid);

/** process_started - in clock ticks since boot: tells it from a later one of its pid; 0: gone */
uint64_t process_started(uint32_t pid);

/** process_parent - its parent now; 0: not known, or of another pid namespace */
uint32_t process_parent(uint32_t pid);

/** process_may_descend - can this process come from that one by forks: false when it was seen that it
 * cannot. One whose own parent has ended may come from anywhere */
bool process_may_descend(uint32_t pid, uint32_t from);

/** process_holds - has it a descriptor of the socket with this inode: 1, 0; -EACCES, -ESRCH ... */
int process_holds(uint32_t pid, uint64_t inode);

/** process_holder - some process that holds it, and its command's name; 0: not found */
uint32_t process_holder(uint64_t inode, char *ret_command, size_t size);

/** process_has_uring - has it an io_uring, or can that not be seen */
bool process_has_uring(uint32_t pid);

/** process_maps_library - has it this program's preload in its memory */
bool process_maps_library(uint32_t pid);

/** process_has_group - was it started with this SOCKSHARD_GROUP (none: the empty one) */
bool process_has_group(uint32_t pid, const char *group);

/** process_service - the systemd unit whose end would end us too; empty when there is none */
void process_service(char *ret_name, size_t size);

/** process_pid_space - inode of our pid namespace; 0: not known */
uint64_t process_pid_space(void);

#endif

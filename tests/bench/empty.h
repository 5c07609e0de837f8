/* The marks of calls that lib_empty.c answers without the kernel. */
#ifndef SOCKSHARD_TESTS_EMPTY_H
#define SOCKSHARD_TESTS_EMPTY_H

#define EMPTY_FLAG 0x40000000 /* of accept4: no flag that exists */
#define EMPTY_FD   40000 /* what it returns, and what close() takes: no descriptor that exists */

#endif

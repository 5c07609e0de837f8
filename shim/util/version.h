/* The version, in one place. */
#ifndef SOCKSHARD_UTIL_VERSION_H
#define SOCKSHARD_UTIL_VERSION_H

#define SOCKSHARD_VERSION "0.1.0"

#endif

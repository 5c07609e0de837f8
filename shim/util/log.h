/* One line per event, written straight to a descriptor: no stdio, no malloc, no lock. Never writes to
 * a descriptor 2 that was replaced by something else since the start, or that is a network socket; never
 * waits, and raises no SIGPIPE. */
#ifndef SOCKSHARD_UTIL_LOG_H
#define SOCKSHARD_UTIL_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/**
 * log_setup - set level and destination
 * @spec: SOCKSHARD_LOG: error, warn, info, debug, or level:/path (appended to, made 0600); NULL = warn
 *
 * Returns 0; -EINVAL for a bad spec (then warn on stderr is in force).
 */
int log_setup(const char *spec);

/** log_stop - nothing is written any more: the server has sandboxed itself */
void log_stop(void);

bool log_enabled(enum log_level level);

/** log_write - "sockshard: TEXT\n" in one write(2); longer than 1,000 bytes is cut. Keeps errno */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif

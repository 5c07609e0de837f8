/* Strict numbers: the whole text or an error. */
#ifndef SOCKSHARD_UTIL_NUM_H
#define SOCKSHARD_UTIL_NUM_H

#include <stddef.h>

/**
 * num_parse - a decimal whole number, nothing before or behind it
 * @text: n characters, not necessarily terminated; no sign, no space, no leading '+'
 *
 * Returns 0; -EINVAL when it is not a number; -ERANGE when outside min..max (both >= 0).
 */
int num_parse(const char *text, size_t n, long min, long max, long *ret_value);

#endif

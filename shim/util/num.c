/* Strict numbers: the whole text or an error. Knows no locale. */
#include "num.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>

int num_parse(const char *text, size_t n, long min, long max, long *ret_value)
{
	bool too_large = false;
	long value = 0;

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		long digit = text[i] - '0';
		if (too_large || value > (LONG_MAX - digit) / 10)
			too_large = true; /* go on: "999...9x" is no number at all */
		else
			value = value * 10 + digit;
	}
	if (too_large || value < min || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

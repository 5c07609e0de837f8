/* Policies from texts that are right. */
#ifndef SOCKSHARD_TESTS_POLICY_FIXTURE_H
#define SOCKSHARD_TESTS_POLICY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../shim/policy/policy.h"

static inline struct policy parsed(const char *text)
{
	struct policy p;
	struct policy_error e = {""};

	if (policy_parse("-p", text, strlen(text), &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static inline struct policy_rule rule_of(const char *text)
{
	struct policy p = parsed(text);

	assert_int_equal(p.n, 1);
	return p.rules[0];
}

#endif

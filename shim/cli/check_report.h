/* What `check --run` says of what it has seen. */
#ifndef SOCKSHARD_CLI_CHECK_REPORT_H
#define SOCKSHARD_CLI_CHECK_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "../policy/policy.h"
#include "check_dry.h"
#include "status.h"

struct check_report {
	const struct check_dry *dry;
	const struct policy *policy;
	const struct status *status; /* of the dry run's keeper, when most was shared */
	const char *log;	     /* the library's lines */
	int64_t ran_ms;
	bool ended;	     /* the process that was started has ended by itself ... */
	int64_t ended_ms;    /* ... after so long ... */
	int wait_status;     /* ... in this way ... */
	bool daemon;	     /* ... and left others behind */
	bool workers_shared; /* SOCKSHARD_WORKERS=shared */
};

/** check_report - print it all; false: something that was asked for did not work */
bool check_report(FILE *to, const struct check_report *r);

#endif

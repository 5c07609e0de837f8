/* See fault.h. Empty in every build that ships. */
#include "fault.h"

#ifdef SOCKSHARD_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FAULT_NAME(name) #name,
static const char *const names[FAULTS] = { FAULT_POINTS(FAULT_NAME) };

static struct {
	int point;
	int nth;
	_Atomic int *passed; /* shared by all workers */
} fault = { .point = -1 };

int fault_setup(void)
{
	const char *want = getenv("SOCKSHARD_FAULT"), *colon = want ? strchr(want, ':') : NULL;
	void *at;

	if (want && strcmp(want, "list") == 0) {
		for (int i = 0; i < FAULTS; i++)
			puts(names[i]);
		return 1;
	}
	if (!colon)
		return 0;
	at = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return 0;
	fault.passed = at;
	fault.nth = atoi(colon + 1);
	for (int i = 0; i < FAULTS; i++)
		if (strlen(names[i]) == (size_t)(colon - want) &&
		    strncmp(names[i], want, (size_t)(colon - want)) == 0)
			fault.point = i;
	return 0;
}

void fault_pass(enum fault_point point)
{
	if ((int)point != fault.point)
		return;
	if (atomic_fetch_add(fault.passed, 1) + 1 == fault.nth || fault.nth == 0)
		(void)kill(getpid(), SIGKILL);
}

#endif

/* What the keeper says about itself, as `sockshard status` shows it. */
#ifndef SOCKSHARD_CLI_STATUS_H
#define SOCKSHARD_CLI_STATUS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "../keeper/wire.h"
#include "variables.h"

struct status_group {
	struct wire_status_group head;
	struct wire_status_slot *slots; /* sorted by slot, then generation */
	size_t n_slots;
	struct wire_status_stranger *strangers;
	size_t n_strangers;
};

struct status {
	uint32_t keeper_pid; /* 0: in another pid namespace */
	struct wire_hello keeper;
	struct status_group *groups;
	size_t n_groups;
	struct wire_status_launcher *launchers;
	size_t n_launchers;
};

/**
 * status_ask - the keeper's answer, collected; never starts one
 * @s: all zero; the caller frees it with status_free(), after a failure too
 *
 * Returns 0; -ENOENT no keeper; -errno it does not answer.
 */
int status_ask(const struct variables *v, struct status *s);

/**
 * status_no_keeper - say on stderr why status_ask() failed
 * @who: the subcommand
 */
void status_no_keeper(const char *who, const struct variables *v, int error);

/**
 * status_add - take one packet of the answer
 * Returns 0; -EPROTO when a slot or stranger comes before its group; -ENOMEM.
 */
int status_add(struct status *s, const struct wire_packet *packet);

/** status_keep - drop all groups but those of a name; returns how many are left */
size_t status_keep(struct status *s, const char *group);

/** status_free - free what status_add() took */
void status_free(struct status *s);

/** status_json - one line of JSON; NULL: no keeper. Later versions only add members */
void status_json(FILE *to, const struct status *s);

/** status_table - for people */
void status_table(FILE *to, const struct status *s);

/** status_state - the word for an enum wire_state; "?" for one this build does not know */
const char *status_state(uint32_t state);

#endif

/* What a new worker does before it works: bring what was committed in line with what there is. */
#ifndef SOCKSHARD_KEEPER_RESTORE_H
#define SOCKSHARD_KEEPER_RESTORE_H

#include "state.h"

/** restore - after this nothing is recorded that is not there, and nothing is there unrecorded */
void restore(struct keeper *k);

#endif

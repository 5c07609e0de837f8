/* What launchers ask for. Each function is one message; its packet becomes the answer. 0; -errno: the
 * connection is to be closed. */
#ifndef SOCKSHARD_KEEPER_LAUNCHER_H
#define SOCKSHARD_KEEPER_LAUNCHER_H

#include "state.h"

/** launcher_register - REGISTER: slot numbers of a group that no other launcher of it has */
int launcher_register(struct keeper *k, int conn, struct wire_packet *p);

/** launcher_wake - WAKE: whoever listens on an address that nobody here holds */
int launcher_wake(struct keeper *k, int conn, struct wire_packet *p);

/** launcher_word - STOPPING, GIVE_UP: what its slots are to expect */
int launcher_word(struct keeper *k, int conn, struct wire_packet *p);

#endif

/* Where the worker can be killed by a test: FAULT(name) is nothing but in a build with
 * -DSOCKSHARD_FAULTS. There SOCKSHARD_FAULT=NAME:N kills the worker at its N-th passage of that point,
 * once, whichever worker passes (N = 0: each that passes); SOCKSHARD_FAULT=list makes the keeper print
 * the table and end. */
#ifndef SOCKSHARD_KEEPER_FAULT_H
#define SOCKSHARD_KEEPER_FAULT_H

/* Every point there is. What is between "before" and "after" is one step of the kernel's. */
#define FAULT_POINTS(point)                                                                        \
	point(accept_before) point(accept_after) point(accept_admitted)                            \
	point(receive_peeked) point(request_handled)                                               \
	point(reply_before) point(reply_after) point(request_consumed)                             \
	point(commit_before) point(commit_after) point(close_after)                                \
	point(hello_watched) point(reserve_page)                                                   \
	point(join_proven) point(listen_before) point(listen_after) point(join_listed)             \
	point(join_orphans) point(join_steered) point(join_told)                                   \
	point(claim_granted) point(made_opened) point(made_copied) point(made_bound)               \
	point(made_listens) point(made_recorded) point(made_revived)                               \
	point(attach_before) point(attach_after)                                                   \
	point(leave_steered) point(leave_done)                                                     \
	point(release_before) point(release_after) point(release_told)                             \
	point(connection_before) point(connection_after) point(connection_reviewed)                \
	point(death_before) point(death_after) point(death_reviewed)                               \
	point(give_accept_before) point(give_accept_after) point(give_reserved)                    \
	point(nudge_opened) point(nudge_steered) point(nudge_before) point(nudge_connected)        \
	point(nudge_sent) point(ask_known) point(ask_chosen) point(taken)                          \
	point(evict_due) point(vault_after)                                                        \
	point(restart_loaded) point(restart_proven) point(restart_swept) point(restart_listed)     \
	point(restart_steered)

#ifdef SOCKSHARD_FAULTS

#define FAULT_ENUM(name) FAULT_##name,
enum fault_point { FAULT_POINTS(FAULT_ENUM) FAULTS };
#undef FAULT_ENUM

/** fault_setup - read SOCKSHARD_FAULT, before the first worker is made; 1: the table was asked for */
int fault_setup(void);

/** fault_pass - the worker passes a point */
void fault_pass(enum fault_point point);

#define FAULT(name) fault_pass(FAULT_##name)

#else

#define FAULT(name) ((void)0)

#endif
#endif

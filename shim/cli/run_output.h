/* --prefix: the output of a copy goes through a pipe, and each line gets its slot in front. */
#ifndef SOCKSHARD_CLI_RUN_OUTPUT_H
#define SOCKSHARD_CLI_RUN_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#define OUTPUT_LINE 4000 /* a longer line is broken; with the prefix below PIPE_BUF */

struct output {
	int read_fd;  /* ours, non-blocking */
	int write_fd; /* for the copies of the slot, one after the other */
	int to;	      /* our own stdout or stderr; not owned */
	bool waiting; /* whole lines are here, but nobody reads what we write */
	char tag[16]; /* "[3] " */
	size_t used;
	char line[OUTPUT_LINE];
};

/** output_open - make the pipe; 0 or -errno */
int output_open(struct output *o, unsigned slot, int to);

/** output_pump - pass on all whole lines that came, without blocking; waiting says if some are left
 */
void output_pump(struct output *o);

/** output_flush - pass on everything, a last line without its end too (it gets one) */
void output_flush(struct output *o);

/** output_close - close the pipe */
void output_close(struct output *o);

#endif

/* cli/run_output.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/cli/run_output.h"

static void passes(struct output *o, const char *text)
{
	assert_int_equal(write(o->write_fd, text, strlen(text)), strlen(text));
	output_pump(o);
}

static void reads(int fd, const char *text)
{
	char buf[16384];
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = '\0';
	assert_string_equal(buf, text);
}

static void every_line_gets_its_slot_in_front(void **state)
{
	struct output o;
	int to[2];

	(void)state;
	assert_int_equal(pipe2(to, O_NONBLOCK), 0);
	assert_int_equal(output_open(&o, 3, to[1]), 0);
	passes(&o, "a\nb");
	reads(to[0], "[3] a\n");
	passes(&o, "c\n\nend");
	reads(to[0], "[3] bc\n[3] \n");
	output_flush(&o);
	reads(to[0], "[3] end\n");
	output_flush(&o);
	reads(to[0], "");
	output_close(&o);
	close(to[0]);
	close(to[1]);
}

static void a_line_too_long_is_broken(void **state)
{
	char text[OUTPUT_LINE + 11], said[OUTPUT_LINE + 32];
	struct output o;
	int to[2];

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text + sizeof(text) - 2, "\n", 2);
	assert_int_equal(pipe2(to, O_NONBLOCK), 0);
	assert_int_equal(output_open(&o, 0, to[1]), 0);
	passes(&o, text);
	snprintf(said, sizeof(said), "[0] %.*s\n[0] %s", OUTPUT_LINE, text, text + OUTPUT_LINE);
	reads(to[0], said);
	output_close(&o);
	close(to[0]);
	close(to[1]);
}

/* Nobody reads: pumping returns, says that it waits, and goes on when somebody does. */
static void a_slow_reader_does_not_block_us(void **state)
{
	char filler[4096] = "";
	struct output o;
	int to[2];

	(void)state;
	assert_int_equal(pipe2(to, O_NONBLOCK), 0);
	while (write(to[1], filler, sizeof(filler)) > 0)
		;
	assert_int_equal(output_open(&o, 0, to[1]), 0);
	passes(&o, "line\n");
	assert_true(o.waiting);
	while (read(to[0], filler, sizeof(filler)) > 0)
		;
	output_pump(&o);
	assert_false(o.waiting);
	reads(to[0], "[0] line\n");
	output_close(&o);
	close(to[0]);
	close(to[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_line_gets_its_slot_in_front),
		cmocka_unit_test(a_line_too_long_is_broken),
		cmocka_unit_test(a_slow_reader_does_not_block_us),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

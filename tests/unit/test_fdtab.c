/* core/fdtab.c: which descriptors are ours. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/core/fdtab.h"
#include "../../shim/core/shard.h"

static struct shard one, two;
static struct wire_page counter, other_counter;
#define MARK	   ((uintptr_t)&counter)
#define OTHER_MARK ((uintptr_t)&other_counter)

static int empty(void **state)
{
	(void)state;
	for (unsigned internal = 0; internal < 2; internal++)
		for (int fd = fdtab_next(0, internal); fd >= 0; fd = fdtab_next(0, internal))
			fdtab_remove(fd);
	atomic_store(&counter.word, 0);
	return 0;
}

static void an_unknown_descriptor_is_not_ours(void **state)
{
	(void)state;
	assert_int_equal(fdtab_peek(3), FDTAB_NOT_OURS);
	assert_int_equal(fdtab_peek(-1), FDTAB_NOT_OURS);
	assert_int_equal(fdtab_peek(INT32_MAX), FDTAB_NOT_OURS);
	assert_int_equal(fdtab_peek(INT32_MIN), FDTAB_NOT_OURS);
	assert_null(fdtab_find(3));
	fdtab_remove(3);
	fdtab_remove(-1);
	assert_int_equal(fdtab_next(0, false), -1);
	assert_int_equal(fdtab_next(0, true), -1);
}

static void an_added_descriptor_is_found_until_it_is_removed(void **state)
{
	(void)state;
	assert_int_equal(fdtab_add(7, &one, MARK), 0);
	assert_ptr_equal(fdtab_find(7), &one);
	assert_int_equal(fdtab_peek(7), MARK);
	assert_int_equal(fdtab_peek(6), FDTAB_NOT_OURS);
	assert_int_equal(fdtab_peek(8), FDTAB_NOT_OURS);
	fdtab_remove(7);
	assert_null(fdtab_find(7));
	assert_int_equal(fdtab_peek(7), FDTAB_NOT_OURS);
}

static void what_was_there_is_replaced(void **state)
{
	(void)state;
	assert_int_equal(fdtab_add(7, &one, MARK), 0);
	assert_int_equal(fdtab_add(7, &two, OTHER_MARK), 0);
	assert_ptr_equal(fdtab_find(7), &two);
	assert_int_equal(fdtab_peek(7), OTHER_MARK);
	assert_int_equal(fdtab_mark_of(&one), FDTAB_NOT_OURS);
	assert_int_equal(fdtab_add_internal(7), 0);
	assert_null(fdtab_find(7));
	assert_int_equal(fdtab_peek(7), FDTAB_INTERNAL);
	fdtab_remove(7);
	assert_int_equal(fdtab_next(0, true), -1);
}

static void only_a_listener_not_waited_for_yet_wants_a_touch(void **state)
{
	unsigned before = atomic_load(&fdtab_touch);

	(void)state;
	assert_int_equal(fdtab_add(7, &one, MARK | FDTAB_CLAIM), 0);
	assert_int_equal(fdtab_add(9, &one, MARK | FDTAB_CLAIM), 0);
	assert_int_equal(atomic_load(&fdtab_touch), before + 2);
	fdtab_set_mark(&one, MARK | FDTAB_CLAIM | FDTAB_POLLED);
	assert_int_equal(atomic_load(&fdtab_touch), before);
	fdtab_set_mark(&one, MARK | FDTAB_CLAIM);
	fdtab_remove(7);
	assert_int_equal(atomic_load(&fdtab_touch), before + 1);
	fdtab_set_mark(&one, MARK);
	assert_int_equal(atomic_load(&fdtab_touch), before);
	fdtab_remove(9);
	assert_int_equal(atomic_load(&fdtab_touch), before);
}

static void a_count_goes_to_the_page_whatever_the_bits_say(void **state)
{
	(void)state;
	assert_int_equal(fdtab_count(MARK | FDTAB_CLAIM | FDTAB_POLLED), 0);
	assert_int_equal(atomic_load(&counter.word), WIRE_ONE);
}

static void a_tag_is_no_entry_and_ends_with_its_number(void **state)
{
	unsigned before = atomic_load(&fdtab_touch);

	(void)state;
	fdtab_tag(7, FDTAB_CLAIM);
	fdtab_tag(8, FDTAB_FOREIGN);
	fdtab_tag(FDTAB_MARKS, FDTAB_FOREIGN);
	assert_int_equal(fdtab_peek(7), FDTAB_CLAIM);
	assert_int_equal(fdtab_peek(8), FDTAB_FOREIGN);
	assert_int_equal(fdtab_peek(FDTAB_MARKS), FDTAB_NOT_OURS);
	assert_int_equal(atomic_load(&fdtab_tags), 2);
	assert_int_equal(atomic_load(&fdtab_touch), before + 1);
	assert_null(fdtab_find(7));
	assert_int_equal(fdtab_next(0, false), -1);
	fdtab_remove(7);
	assert_int_equal(fdtab_peek(7), FDTAB_NOT_OURS);
	fdtab_tag(9, FDTAB_FOREIGN);
	fdtab_untag(0, 8);
	assert_int_equal(fdtab_peek(8), FDTAB_NOT_OURS);
	assert_int_equal(fdtab_peek(9), FDTAB_FOREIGN);
	fdtab_untag(9, UINT32_MAX);
	assert_int_equal(atomic_load(&fdtab_tags), 0);
	assert_int_equal(atomic_load(&fdtab_touch), before);
}

static void an_entry_is_never_tagged(void **state)
{
	(void)state;
	assert_int_equal(fdtab_add(7, &one, MARK), 0);
	fdtab_tag(7, FDTAB_FOREIGN);
	assert_int_equal(fdtab_peek(7), MARK);
	assert_int_equal(atomic_load(&fdtab_tags), 0);
	assert_int_equal(fdtab_add(9, &two, OTHER_MARK), 0);
	assert_int_equal(fdtab_add(11, &one, MARK), 0);
	assert_int_equal(fdtab_number_of(&one, 0), 7);
	assert_int_equal(fdtab_number_of(&one, 8), 11);
	assert_int_equal(fdtab_number_of(&one, 12), -1);
}

static void descriptors_beyond_the_marks_are_found_too(void **state)
{
	static const int fds[] = {FDTAB_MARKS - 1, FDTAB_MARKS, FDTAB_MARKS + 1, 1 << 20,
				  INT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		assert_int_equal(fdtab_add(fds[i], &one, MARK), 0);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		assert_int_equal(fdtab_peek(fds[i]), MARK);
	assert_int_equal(fdtab_peek(FDTAB_MARKS + 2), FDTAB_NOT_OURS);
	assert_int_equal(atomic_load(&fdtab_above), 4);
	fdtab_set_mark(&one, OTHER_MARK);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		assert_int_equal(fdtab_peek(fds[i]), OTHER_MARK);
		fdtab_remove(fds[i]);
		assert_int_equal(fdtab_peek(fds[i]), FDTAB_NOT_OURS);
	}
	assert_int_equal(atomic_load(&fdtab_above), 0);
}

static void a_mark_is_set_on_every_descriptor_of_a_shard(void **state)
{
	(void)state;
	assert_int_equal(fdtab_add(3, &one, MARK), 0);
	assert_int_equal(fdtab_add(4, &two, MARK), 0);
	assert_int_equal(fdtab_add(5, &one, MARK), 0);
	fdtab_set_mark(&one, OTHER_MARK | FDTAB_CLAIM);
	assert_int_equal(fdtab_peek(3), OTHER_MARK | FDTAB_CLAIM);
	assert_int_equal(fdtab_peek(4), MARK);
	assert_int_equal(fdtab_peek(5), OTHER_MARK | FDTAB_CLAIM);
	assert_int_equal(fdtab_mark_of(&one), OTHER_MARK | FDTAB_CLAIM);
	assert_int_equal(fdtab_mark_of(&two), MARK);
}

static void accepts_are_counted_by_the_mark_with_or_without_its_bits(void **state)
{
	(void)state;
	fdtab_count(MARK);
	fdtab_count(MARK | FDTAB_CLAIM);
	fdtab_count(MARK | FDTAB_INTERNAL);
	assert_int_equal(atomic_load(&counter.word) / WIRE_ONE, 3);
}

static void the_next_descriptor_is_the_lowest_of_its_kind(void **state)
{
	(void)state;
	assert_int_equal(fdtab_add(900, &one, MARK), 0);
	assert_int_equal(fdtab_add(5, &one, MARK), 0);
	assert_int_equal(fdtab_add_internal(6), 0);
	assert_int_equal(fdtab_add(70, &two, MARK), 0);
	assert_int_equal(fdtab_next(0, false), 5);
	assert_int_equal(fdtab_next(5, false), 5);
	assert_int_equal(fdtab_next(6, false), 70);
	assert_int_equal(fdtab_next(71, false), 900);
	assert_int_equal(fdtab_next(901, false), -1);
	assert_int_equal(fdtab_next(0, true), 6);
	assert_int_equal(fdtab_next(7, true), -1);
}

static void many_descriptors_are_told_apart(void **state)
{
	(void)state;
	for (int fd = 0; fd < 5000; fd++)
		assert_int_equal(fdtab_add(fd, fd % 3 ? &one : &two, fd % 3 ? MARK : OTHER_MARK),
				 0);
	for (int fd = 0; fd < 5000; fd += 2)
		fdtab_remove(fd);
	for (int fd = 0; fd < 5000; fd++) {
		struct shard *want = fd % 3 ? &one : &two;

		assert_ptr_equal(fdtab_find(fd), fd % 2 ? want : NULL);
	}
}

/* In a child: a limit on memory cannot be taken back. */
static int fill_without_memory(void)
{
	struct rlimit none = {0, 0};
	int fd = 0, r = 0;

	if (setrlimit(RLIMIT_AS, &none) == -1)
		return 1;
	while (r == 0 && fd < FDTAB_MARKS * 16)
		r = fdtab_add(fd++, &one, MARK);
	if (r != -ENOMEM)
		return 2;
	if (fdtab_peek(fd - 1) != FDTAB_NOT_OURS || fdtab_find(fd - 1))
		return 3;
	for (int i = 0; i < fd - 1; i++)
		if (fdtab_find(i) != &one || fdtab_peek(i) != MARK)
			return 4;
	for (int i = 0; i < fd - 1; i++)
		fdtab_remove(i);
	return fdtab_next(0, false) == -1 ? 0 : 5;
}

static void without_memory_nothing_breaks(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0)
		_exit(fill_without_memory());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void a_forked_childs_lock_is_free(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fdtab_lock();
	child = fork();
	if (child == 0) {
		alarm(10);
		fdtab_reinit_lock();
		fdtab_lock();
		fdtab_unlock();
		_exit(0);
	}
	fdtab_unlock();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, empty)
	const struct CMUnitTest tests[] = {
		TEST(an_unknown_descriptor_is_not_ours),
		TEST(an_added_descriptor_is_found_until_it_is_removed),
		TEST(what_was_there_is_replaced),
		TEST(only_a_listener_not_waited_for_yet_wants_a_touch),
		TEST(a_count_goes_to_the_page_whatever_the_bits_say),
		TEST(a_tag_is_no_entry_and_ends_with_its_number),
		TEST(an_entry_is_never_tagged),
		TEST(descriptors_beyond_the_marks_are_found_too),
		TEST(a_mark_is_set_on_every_descriptor_of_a_shard),
		TEST(accepts_are_counted_by_the_mark_with_or_without_its_bits),
		TEST(the_next_descriptor_is_the_lowest_of_its_kind),
		TEST(many_descriptors_are_told_apart),
		TEST(without_memory_nothing_breaks),
		TEST(a_forked_childs_lock_is_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* cli/elf.c, on made-up files of both sizes and both byte orders, and on this very program. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/cli/elf.h"

#define IMAGE_BYTES 1024
#define TABLE	    128 /* program headers, 3 of them at most */
#define SECTIONS    384
#define PAYLOAD	    640

struct image {
	uint8_t bytes[IMAGE_BYTES];
	bool wide, big;
};

static void put(struct image *im, size_t at, uint64_t value, unsigned size)
{
	unsigned i;

	for (i = 0; i < size; i++)
		im->bytes[at + (im->big ? size - 1 - i : i)] = (uint8_t)(value >> 8 * i);
}

static void word(struct image *im, size_t at, uint64_t value)
{
	put(im, at, value, im->wide ? 8 : 4);
}

/* An ELF header with room for segments (3) and sections, neither in use yet. */
static struct image begin(bool wide, bool big)
{
	struct image im = {.wide = wide, .big = big};

	memcpy(im.bytes, "\177ELF", 4);
	im.bytes[4] = wide ? 2 : 1;
	im.bytes[5] = big ? 2 : 1;
	put(&im, 16, 3, 2);  /* ET_DYN */
	put(&im, 18, 62, 2); /* x86-64 */
	word(&im, wide ? 32 : 28, TABLE);
	put(&im, wide ? 54 : 42, wide ? 56 : 32, 2);
	return im;
}

static void segment(struct image *im, uint32_t type, uint64_t offset, uint64_t vaddr, uint64_t size)
{
	size_t count = im->wide ? 56 : 44;
	unsigned n = im->bytes[im->big ? count + 1 : count];
	size_t at = TABLE + (size_t)n * (im->wide ? 56 : 32);

	put(im, at, type, 4);
	word(im, at + (im->wide ? 8 : 4), offset);
	word(im, at + (im->wide ? 16 : 8), vaddr);
	word(im, at + (im->wide ? 32 : 16), size);
	put(im, count, n + 1, 2);
}

static void interp(struct image *im, const char *path)
{
	strcpy((char *)im->bytes + PAYLOAD, path);
	segment(im, 3, PAYLOAD, 0, strlen(path) + 1);
}

/* Two sections: the table of names, and one of the given name. */
static void section(struct image *im, const char *name)
{
	unsigned size = im->wide ? 64 : 40;

	word(im, im->wide ? 40 : 32, SECTIONS);
	put(im, im->wide ? 58 : 46, size, 2);
	put(im, im->wide ? 60 : 48, 2, 2);
	put(im, im->wide ? 62 : 50, 0, 2);
	word(im, SECTIONS + (im->wide ? 24 : 16), PAYLOAD + 64);
	put(im, SECTIONS + size, 1, 4);
	strcpy((char *)im->bytes + PAYLOAD + 65, name);
}

/* A library whose dynamic section needs the named one; addresses are offsets plus 0x1000. */
static void needs(struct image *im, const char *name)
{
	unsigned half = im->wide ? 8 : 4;

	strcpy((char *)im->bytes + PAYLOAD + 1, name);
	word(im, PAYLOAD + 128, 1); /* DT_NEEDED */
	word(im, PAYLOAD + 128 + half, 1);
	word(im, PAYLOAD + 128 + 2 * half, 5); /* DT_STRTAB */
	word(im, PAYLOAD + 128 + 3 * half, 0x1000 + PAYLOAD);
	segment(im, 1, 0, 0x1000, IMAGE_BYTES);
	segment(im, 2, PAYLOAD + 128, 0x1000 + PAYLOAD + 128, 6 * half);
}

static int inspect(const struct image *im, struct elf_info *info)
{
	return elf_inspect(im->bytes, sizeof(im->bytes), info);
}

static void a_dynamic_program_names_its_interpreter(void **state)
{
	static const bool orders[] = {false, true};
	struct elf_info info;
	unsigned w, b;

	(void)state;
	for (w = 0; w < 2; w++) {
		for (b = 0; b < 2; b++) {
			struct image im = begin(orders[w], orders[b]);

			interp(&im, "/lib64/ld-linux-x86-64.so.2");
			assert_int_equal(inspect(&im, &info), 0);
			assert_string_equal(info.interp, "/lib64/ld-linux-x86-64.so.2");
			assert_int_equal(info.bits, w ? 64 : 32);
			assert_int_equal(info.big_endian, b);
			assert_int_equal(info.machine, 62);
			assert_int_equal(info.type, 3);
			assert_int_equal(info.libc, ELF_LIBC_GLIBC);
			assert_false(info.go);
		}
	}
}

static void a_static_program_has_no_interpreter(void **state)
{
	struct image im = begin(true, false);
	struct elf_info info;

	(void)state;
	segment(&im, 1, 0, 0x400000, 512);
	assert_int_equal(inspect(&im, &info), 0);
	assert_string_equal(info.interp, "");
	assert_int_equal(info.libc, ELF_LIBC_UNKNOWN);
}

static void a_library_is_known_by_the_libc_it_needs(void **state)
{
	static const struct {
		const char *name;
		enum elf_libc libc;
	} libraries[] = {
		{"libc.so.6", ELF_LIBC_GLIBC},
		{"libc.so", ELF_LIBC_MUSL},
		{"libc.musl-x86_64.so.1", ELF_LIBC_MUSL},
		{"libc.so.7", ELF_LIBC_UNKNOWN},
		{"libm.so.6", ELF_LIBC_UNKNOWN},
	};
	struct elf_info info;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
		struct image wide = begin(true, false), narrow = begin(false, true);

		needs(&wide, libraries[i].name);
		assert_int_equal(inspect(&wide, &info), 0);
		assert_int_equal(info.libc, libraries[i].libc);
		needs(&narrow, libraries[i].name);
		assert_int_equal(inspect(&narrow, &info), 0);
		assert_int_equal(info.libc, libraries[i].libc);
	}
}

static void a_go_program_is_known_by_its_sections(void **state)
{
	static const char *const names[] = {".go.buildinfo", ".gopclntab", ".note.go.buildid"};
	struct elf_info info;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct image wide = begin(true, false), narrow = begin(false, true);

		section(&wide, names[i]);
		assert_int_equal(inspect(&wide, &info), 0);
		assert_true(info.go);
		section(&narrow, names[i]);
		assert_int_equal(inspect(&narrow, &info), 0);
		assert_true(info.go);
	}
}

static void other_sections_are_not_taken_for_go(void **state)
{
	static const char *const names[] = {".text", ".go.buildinfo2", ".gopclnta", ".go_export"};
	struct elf_info info;
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct image im = begin(true, false);

		section(&im, names[i]);
		assert_int_equal(inspect(&im, &info), 0);
		assert_false(info.go);
	}
}

static void note(struct image *im, const char name[4], uint32_t type)
{
	/* a note of somebody else first, its name filled up to four bytes */
	put(im, PAYLOAD, 3, 4);
	put(im, PAYLOAD + 4, 5, 4);
	put(im, PAYLOAD + 8, 1, 4);
	memcpy(im->bytes + PAYLOAD + 12, "AB", 3);
	put(im, PAYLOAD + 24, 4, 4);
	put(im, PAYLOAD + 28, 8, 4);
	put(im, PAYLOAD + 32, type, 4);
	memcpy(im->bytes + PAYLOAD + 36, name, 4);
	segment(im, 4, PAYLOAD, 0, 48);
}

static void a_stripped_go_program_is_known_by_its_note(void **state)
{
	struct image go = begin(true, false), gnu = begin(true, false), other = begin(false, true);
	struct elf_info info;

	(void)state;
	note(&go, "Go\0", 4);
	assert_int_equal(inspect(&go, &info), 0);
	assert_true(info.go);
	note(&gnu, "GNU", 4);
	assert_int_equal(inspect(&gnu, &info), 0);
	assert_false(info.go);
	note(&other, "Go\0", 3);
	assert_int_equal(inspect(&other, &info), 0);
	assert_false(info.go);
}

static void what_is_no_elf_file_is_told_from_a_damaged_one(void **state)
{
	struct image im = begin(true, false);
	struct elf_info info;

	(void)state;
	assert_int_equal(elf_inspect("", 0, &info), -ENOEXEC);
	assert_int_equal(elf_inspect("#!/bin/sh\n", 10, &info), -ENOEXEC);
	assert_int_equal(elf_inspect("\177ELF", 4, &info), -EBADMSG);
	assert_int_equal(elf_inspect(im.bytes, 63, &info), -EBADMSG);
	im.bytes[4] = 3;
	assert_int_equal(inspect(&im, &info), -EBADMSG);
	im.bytes[4] = 2;
	im.bytes[5] = 0;
	assert_int_equal(inspect(&im, &info), -EBADMSG);
}

static void headers_outside_the_file_are_damage(void **state)
{
	struct image table = begin(true, false), path = begin(true, false),
		     open = begin(true, false);
	struct image small = begin(true, false), many = begin(true, false);
	struct elf_info info;

	(void)state;
	segment(&table, 1, 0, 0, 0);
	word(&table, 32, UINT64_MAX - 8); /* the sum wraps */
	assert_int_equal(inspect(&table, &info), -EBADMSG);
	segment(&path, 3, UINT64_MAX - 3, 0, 16);
	assert_int_equal(inspect(&path, &info), -EBADMSG);
	memset(open.bytes + PAYLOAD, 'x', 16);
	segment(&open, 3, PAYLOAD, 0, 16); /* does not end */
	assert_int_equal(inspect(&open, &info), -EBADMSG);
	segment(&small, 1, 0, 0, 0);
	put(&small, 54, 55, 2); /* entries shorter than one */
	assert_int_equal(inspect(&small, &info), -EBADMSG);
	put(&many, 56, 0xffff, 2);
	assert_int_equal(inspect(&many, &info), -EBADMSG);
}

static void broken_sections_do_not_matter(void **state)
{
	struct image im = begin(true, false);
	struct elf_info info;

	(void)state;
	section(&im, ".go.buildinfo");
	word(&im, 40, IMAGE_BYTES - 1);
	assert_int_equal(inspect(&im, &info), 0);
	assert_false(info.go);
}

/* Copied into a block of its own, so that ASan and valgrind see a byte too many. */
static void no_cut_of_a_file_is_read_behind_its_end(void **state)
{
	struct image im = begin(true, false);
	struct elf_info info;
	size_t n;

	(void)state;
	needs(&im, "libc.so.6");
	section(&im, ".go.buildinfo");
	for (n = 0; n < sizeof(im.bytes); n++) {
		uint8_t *cut = malloc(n + 1);
		int r;

		assert_non_null(cut);
		memcpy(cut, im.bytes, n);
		cut = realloc(cut, n != 0 ? n : 1);
		r = elf_inspect(cut, n, &info);
		assert_true(r == 0 || r == -EBADMSG || r == -ENOEXEC);
		free(cut);
	}
}

static void this_program_is_dynamic(void **state)
{
	struct elf_info info;

	(void)state;
	assert_int_equal(elf_inspect_file("/proc/self/exe", &info), 0);
	assert_int_equal(info.bits, 8 * sizeof(void *));
	assert_int_not_equal(info.interp[0], '\0');
	assert_false(info.go);
}

static void folders_and_missing_files_are_refused(void **state)
{
	struct elf_info info;

	(void)state;
	assert_int_equal(elf_inspect_file("/nonexistent", &info), -ENOENT);
	assert_int_equal(elf_inspect_file("/proc", &info), -ENOEXEC);
	assert_int_equal(elf_inspect_file("/dev/null", &info), -ENOEXEC);
}

static void an_interpreter_tells_its_libc(void **state)
{
	(void)state;
	assert_int_equal(elf_libc_of_interp("/lib64/ld-linux-x86-64.so.2"), ELF_LIBC_GLIBC);
	assert_int_equal(elf_libc_of_interp("/lib/ld-linux.so.2"), ELF_LIBC_GLIBC);
	assert_int_equal(elf_libc_of_interp("/lib/ld64.so.1"), ELF_LIBC_GLIBC);
	assert_int_equal(elf_libc_of_interp("/lib/ld.so.1"), ELF_LIBC_GLIBC);
	assert_int_equal(elf_libc_of_interp("/lib/ld-musl-x86_64.so.1"), ELF_LIBC_MUSL);
	assert_int_equal(elf_libc_of_interp("/system/bin/linker64"), ELF_LIBC_OTHER);
	assert_int_equal(elf_libc_of_interp("ld-musl-armhf.so.1"), ELF_LIBC_MUSL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dynamic_program_names_its_interpreter),
		cmocka_unit_test(a_static_program_has_no_interpreter),
		cmocka_unit_test(a_library_is_known_by_the_libc_it_needs),
		cmocka_unit_test(a_go_program_is_known_by_its_sections),
		cmocka_unit_test(other_sections_are_not_taken_for_go),
		cmocka_unit_test(a_stripped_go_program_is_known_by_its_note),
		cmocka_unit_test(what_is_no_elf_file_is_told_from_a_damaged_one),
		cmocka_unit_test(headers_outside_the_file_are_damage),
		cmocka_unit_test(broken_sections_do_not_matter),
		cmocka_unit_test(no_cut_of_a_file_is_read_behind_its_end),
		cmocka_unit_test(this_program_is_dynamic),
		cmocka_unit_test(folders_and_missing_files_are_refused),
		cmocka_unit_test(an_interpreter_tells_its_libc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

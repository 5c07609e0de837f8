/* ELF headers, read with bounds: offsets and sizes come from the file and are never believed. The
 * layouts are written down here (elf(5), gABI) so that no system's elf.h is needed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.h"

#define SEGMENT_LOAD	1u
#define SEGMENT_DYNAMIC 2u
#define SEGMENT_INTERP	3u
#define SEGMENT_NOTE	4u
#define SEGMENTS_MAX	256u /* real files have about 13 */
#define SECTIONS_MAX	4096u
#define ENTRY_NEEDED	1u
#define ENTRY_STRTAB	5u
#define NOTE_GO_BUILDID 4u

struct image {
	const uint8_t *bytes;
	size_t n;
	bool wide; /* 64 bit */
	bool big;
};

struct segment {
	uint32_t type;
	uint64_t offset, vaddr, size;
};

static bool inside(const struct image *im, uint64_t offset, uint64_t size)
{
	return offset <= im->n && size <= im->n - offset;
}

/* An unsigned number of 2, 4 or 8 bytes; the caller has checked that it lies inside. */
static uint64_t number(const struct image *im, uint64_t offset, unsigned size)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < size; i++)
		v = v << 8 | im->bytes[offset + (im->big ? i : size - 1 - i)];
	return v;
}

static uint64_t word(const struct image *im, uint64_t offset)
{
	return number(im, offset, im->wide ? 8 : 4);
}

static bool name_is(const struct image *im, uint64_t offset, const char *name)
{
	size_t n = strlen(name) + 1;

	return inside(im, offset, n) && memcmp(im->bytes + offset, name, n) == 0;
}

static bool name_begins(const struct image *im, uint64_t offset, const char *name)
{
	size_t n = strlen(name);

	return inside(im, offset, n) && memcmp(im->bytes + offset, name, n) == 0;
}

static struct segment segment_at(const struct image *im, uint64_t at)
{
	struct segment s;

	s.type = (uint32_t)number(im, at, 4);
	s.offset = word(im, at + (im->wide ? 8 : 4));
	s.vaddr = word(im, at + (im->wide ? 16 : 8));
	s.size = word(im, at + (im->wide ? 32 : 16));
	return s;
}

static int read_interp(const struct image *im, const struct segment *s, struct elf_info *info)
{
	if (!inside(im, s->offset, s->size) || s->size < 2 || s->size > sizeof(info->interp))
		return -EBADMSG;
	if (im->bytes[s->offset + s->size - 1] != '\0')
		return -EBADMSG;
	memcpy(info->interp, im->bytes + s->offset, (size_t)s->size);
	info->libc = elf_libc_of_interp(info->interp);
	return 0;
}

/* The linker of Go writes a note named "Go" with the build id (cmd/link/internal/ld/elf.go). */
static bool notes_of_go(const struct image *im, const struct segment *s)
{
	uint64_t at = s->offset, end;

	if (!inside(im, s->offset, s->size))
		return false;
	end = s->offset + s->size;
	while (end - at >= 12) {
		uint64_t name = number(im, at, 4), desc = number(im, at + 4, 4);
		uint64_t step = 12 + ((name + 3) & ~3ull) + ((desc + 3) & ~3ull);

		if (step > end - at)
			return false;
		if (number(im, at + 8, 4) == NOTE_GO_BUILDID && name == 4 &&
		    memcmp(im->bytes + at + 12, "Go\0", 4) == 0)
			return true;
		at += step;
	}
	return false;
}

/* Address in memory -> offset in the file, by the loaded segments. */
static bool file_offset(const struct image *im, uint64_t table, unsigned count, unsigned size,
			uint64_t address, uint64_t *ret_offset)
{
	unsigned i;

	for (i = 0; i < count; i++) {
		struct segment s = segment_at(im, table + (uint64_t)i * size);

		if (s.type != SEGMENT_LOAD || address < s.vaddr || address - s.vaddr >= s.size ||
		    !inside(im, s.offset, s.size))
			continue;
		*ret_offset = s.offset + (address - s.vaddr);
		return true;
	}
	return false;
}

/* A library has no interpreter: the libc it was linked with is among what it needs. */
static enum elf_libc libc_needed(const struct image *im, const struct segment *dynamic,
				 uint64_t table, unsigned count, unsigned size)
{
	unsigned step = im->wide ? 16 : 8, half = step / 2;
	uint64_t strings = 0, i, n = dynamic->size / step;

	if (!inside(im, dynamic->offset, dynamic->size))
		return ELF_LIBC_UNKNOWN;
	for (i = 0; i < n && word(im, dynamic->offset + i * step) != 0; i++) {
		uint64_t at = dynamic->offset + i * step;

		if (word(im, at) != ENTRY_STRTAB)
			continue;
		if (!file_offset(im, table, count, size, word(im, at + half), &strings))
			return ELF_LIBC_UNKNOWN;
		break;
	}
	for (i = 0; strings != 0 && i < n && word(im, dynamic->offset + i * step) != 0; i++) {
		uint64_t at = dynamic->offset + i * step, name = word(im, at + half);

		if (word(im, at) != ENTRY_NEEDED || name > im->n)
			continue;
		if (name_is(im, strings + name, "libc.so.6"))
			return ELF_LIBC_GLIBC;
		if (name_is(im, strings + name, "libc.so") ||
		    name_begins(im, strings + name, "libc.musl-"))
			return ELF_LIBC_MUSL;
	}
	return ELF_LIBC_UNKNOWN;
}

static int read_segments(const struct image *im, struct elf_info *info)
{
	uint64_t table = word(im, im->wide ? 32 : 28);
	unsigned size = (unsigned)number(im, im->wide ? 54 : 42, 2);
	unsigned count = (unsigned)number(im, im->wide ? 56 : 44, 2), i;
	enum elf_libc needed = ELF_LIBC_UNKNOWN;
	bool dynamic = false;

	if (count > SEGMENTS_MAX || (count != 0 && size < (im->wide ? 56u : 32u)) ||
	    !inside(im, table, (uint64_t)count * size))
		return -EBADMSG;
	for (i = 0; i < count; i++) {
		struct segment s = segment_at(im, table + (uint64_t)i * size);

		if (s.type == SEGMENT_INTERP && read_interp(im, &s, info) != 0)
			return -EBADMSG;
		if (s.type == SEGMENT_NOTE && notes_of_go(im, &s))
			info->go = true;
		if (s.type == SEGMENT_DYNAMIC && !dynamic) {
			dynamic = true;
			needed = libc_needed(im, &s, table, count, size);
		}
	}
	if (info->interp[0] == '\0')
		info->libc = needed;
	return 0;
}

/* Sections are not needed to run a program: a missing or broken table says nothing, it is no error.
 */
static void read_sections(const struct image *im, struct elf_info *info)
{
	uint64_t table = word(im, im->wide ? 40 : 32), names;
	unsigned size = (unsigned)number(im, im->wide ? 58 : 46, 2);
	unsigned count = (unsigned)number(im, im->wide ? 60 : 48, 2);
	unsigned index = (unsigned)number(im, im->wide ? 62 : 50, 2), i;

	if (count > SECTIONS_MAX || index >= count || size < (im->wide ? 64u : 40u) ||
	    !inside(im, table, (uint64_t)count * size))
		return;
	names = word(im, table + (uint64_t)index * size + (im->wide ? 24 : 16));
	if (names > im->n)
		return;
	for (i = 0; i < count && !info->go; i++) {
		uint64_t name = names + number(im, table + (uint64_t)i * size, 4);

		info->go = name_is(im, name, ".go.buildinfo") || name_is(im, name, ".gopclntab") ||
			   name_is(im, name, ".note.go.buildid");
	}
}

int elf_inspect(const void *bytes, size_t n, struct elf_info *ret_info)
{
	struct image im = {.bytes = bytes, .n = n};
	struct elf_info info = {0};
	int r;

	if (n < 4 || memcmp(im.bytes, "\177ELF", 4) != 0)
		return -ENOEXEC;
	if (n < 52 || im.bytes[4] < 1 || im.bytes[4] > 2 || im.bytes[5] < 1 || im.bytes[5] > 2)
		return -EBADMSG;
	im.wide = im.bytes[4] == 2;
	im.big = im.bytes[5] == 2;
	if (im.wide && n < 64)
		return -EBADMSG;
	info.bits = im.wide ? 64 : 32;
	info.big_endian = im.big;
	info.type = (uint16_t)number(&im, 16, 2);
	info.machine = (uint16_t)number(&im, 18, 2);
	r = read_segments(&im, &info);
	if (r != 0)
		return r;
	read_sections(&im, &info);
	*ret_info = info;
	return 0;
}

int elf_inspect_file(const char *path, struct elf_info *ret_info)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;
	struct stat st;
	void *bytes;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
		close(fd);
		return -ENOEXEC;
	}
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	r = bytes == MAP_FAILED ? -errno : 0;
	close(fd);
	if (r != 0)
		return r;
	r = elf_inspect(bytes, (size_t)st.st_size, ret_info);
	munmap(bytes, (size_t)st.st_size);
	return r;
}

enum elf_libc elf_libc_of_interp(const char *interp)
{
	const char *slash = strrchr(interp, '/');
	const char *base = slash != NULL ? slash + 1 : interp;

	if (strncmp(base, "ld-musl", 7) == 0)
		return ELF_LIBC_MUSL;
	/* ld-linux.so.2, ld-linux-x86-64.so.2, ld64.so.1, ld.so.1 (mips, powerpc) */
	if (strncmp(base, "ld-linux", 8) == 0 || strncmp(base, "ld64.so.", 8) == 0 ||
	    strcmp(base, "ld.so.1") == 0)
		return ELF_LIBC_GLIBC;
	return ELF_LIBC_OTHER;
}

const char *elf_libc_name(enum elf_libc libc)
{
	switch (libc) {
	case ELF_LIBC_GLIBC:
		return "glibc";
	case ELF_LIBC_MUSL:
		return "musl";
	case ELF_LIBC_UNKNOWN:
	case ELF_LIBC_OTHER:
		break;
	}
	return "another libc";
}

const char *elf_machine_name(uint16_t machine, char buf[24])
{
	static const struct {
		uint16_t machine;
		const char *name;
	} names[] = {
		{3, "i386"},	 {8, "MIPS"},	     {20, "PowerPC"}, {21, "PowerPC64"},
		{22, "S/390"},	 {40, "ARM"},	     {62, "x86-64"},  {183, "AArch64"},
		{243, "RISC-V"}, {258, "LoongArch"},
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].machine == machine)
			return names[i].name;
	}
	snprintf(buf, 24, "machine %u", machine);
	return buf;
}

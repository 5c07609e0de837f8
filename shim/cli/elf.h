/* What an ELF file says about itself, as far as a preload cares: can the dynamic linker reach it,
 * by which libc, and does it go around libc. A strict, bounded parser; knows no paths. elf(5). */
#ifndef SOCKSHARD_CLI_ELF_H
#define SOCKSHARD_CLI_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_INTERP_MAX 256

enum elf_libc { ELF_LIBC_UNKNOWN, ELF_LIBC_GLIBC, ELF_LIBC_MUSL, ELF_LIBC_OTHER };

struct elf_info {
	uint8_t bits; /* 32 or 64 */
	bool big_endian;
	uint16_t type;		     /* e_type: 2 ET_EXEC, 3 ET_DYN */
	uint16_t machine;	     /* e_machine */
	bool go;		     /* built by the Go tool chain */
	enum elf_libc libc;	     /* by the interpreter; of a library by what it needs */
	char interp[ELF_INTERP_MAX]; /* PT_INTERP; empty: static, static-pie, or a library */
};

/**
 * elf_inspect - read the headers of a whole file in memory
 *
 * Returns 0; -ENOEXEC when it is no ELF file; -EBADMSG when it begins as one but a header is cut,
 * lies outside the file or is not one (nothing outside bytes[0..n) is ever read).
 */
int elf_inspect(const void *bytes, size_t n, struct elf_info *ret_info);

/** elf_inspect_file - the same for a file; also -errno of open(2) and mmap(2) */
int elf_inspect_file(const char *path, struct elf_info *ret_info);

/** elf_libc_of_interp - which libc an interpreter's path belongs to */
enum elf_libc elf_libc_of_interp(const char *interp);

/** elf_libc_name - "glibc", "musl", "another libc" */
const char *elf_libc_name(enum elf_libc libc);

/** elf_machine_name - "x86-64"; "machine N" in buf for one without a name here */
const char *elf_machine_name(uint16_t machine, char buf[24]);

#endif

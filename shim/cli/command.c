/* Finds a command as execvp(3) would and judges the program it ends in. Starts nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli.h"
#include "command.h"

#define SCRIPT_DEPTH 4	 /* as BINPRM_MAX_RECURSION of the kernel */
#define SCRIPT_LINE  256 /* BINPRM_BUF_SIZE: what the kernel reads of a #! line */

/* 0: may be executed; -ENOENT; -EACCES. */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return errno == EACCES ? -EACCES : -ENOENT;
	if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
		return -EACCES;
	return 0;
}

int command_find(const char *command, const char *search, char ret_path[PATH_MAX])
{
	char path[PATH_MAX];
	int result = -ENOENT;
	size_t n;

	if (command[0] == '\0')
		return -ENOENT;
	if (strchr(command, '/') != NULL) {
		if (snprintf(path, sizeof(path), "%s", command) >= (int)sizeof(path))
			return -ENOENT;
		memcpy(ret_path, path, strlen(path) + 1);
		return executable(path);
	}
	if (search == NULL)
		search = "/bin:/usr/bin"; /* as glibc's and musl's execvp without a PATH */
	for (;; search += n + 1) {
		n = strcspn(search, ":");
		/* an empty entry is the current folder; the slash stops a second search */
		if (snprintf(path, sizeof(path), "%.*s/%s", n != 0 ? (int)n : 1,
			     n != 0 ? search : ".", command) < (int)sizeof(path)) {
			int r = executable(path);

			if (r == 0 || (r == -EACCES && result == -ENOENT))
				memcpy(ret_path, path, strlen(path) + 1);
			if (r == 0)
				return 0;
			if (r == -EACCES)
				result = r;
		}
		if (search[n] == '\0')
			return result;
	}
}

/* Cuts the next word off a line; NULL at its end. */
static char *next_word(char **line)
{
	char *word = *line + strspn(*line, " \t");
	size_t n = strcspn(word, " \t");

	if (n == 0)
		return NULL;
	*line = word + n + (word[n] != '\0');
	word[n] = '\0';
	return word;
}

/* `env [-S] [OPTION] [NAME=VALUE] PROGRAM`: the program; NULL when it cannot be told. */
static char *env_program(char *line)
{
	char *word;

	while ((word = next_word(&line)) != NULL) {
		if (strncmp(word, "-S", 2) == 0 && word[2] != '\0')
			word += 2;
		if (word[0] != '-' && strchr(word, '=') == NULL)
			return word;
	}
	return NULL;
}

/*
 * What runs a file that is no ELF program. 1: *ret_interp is it; 0: none that we could follow (it
 * names none, or the kernel's binfmt_misc knows better); -errno: it cannot be read.
 */
static int script_interp(const char *path, const char *search, char ret_interp[PATH_MAX])
{
	char line[SCRIPT_LINE + 1], *rest, *word;
	const char *base;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, line, SCRIPT_LINE);
	close(fd);
	if (n < 0)
		return -errno;
	line[n] = '\0';
	if (n < 2 || line[0] != '#' || line[1] != '!') {
		/* execvp(3) gives a text without #! to the shell */
		if (memchr(line, '\0', (size_t)n) != NULL)
			return 0;
		strcpy(ret_interp, "/bin/sh");
		return 1;
	}
	line[strcspn(line, "\n")] = '\0';
	rest = line + 2;
	word = next_word(&rest);
	if (word == NULL)
		return 0;
	base = strrchr(word, '/') != NULL ? strrchr(word, '/') + 1 : word;
	if (strcmp(base, "env") != 0) {
		snprintf(ret_interp, PATH_MAX, "%s", word);
		return 1;
	}
	word = env_program(rest);
	return word != NULL && command_find(word, search, ret_interp) == 0;
}

static bool has_capabilities(const char *path)
{
	return getxattr(path, "security.capability", NULL, 0) > 0;
}

/* Writes the verdict's line: "/path [is run by /judged, which] TEXT". */
static void verdict(struct command_report *report, enum command_verdict v, int status,
		    const char *format, ...) __attribute__((format(printf, 4, 5)));

static void verdict(struct command_report *report, enum command_verdict v, int status,
		    const char *format, ...)
{
	bool script = strcmp(report->path, report->judged) != 0;
	int n = snprintf(report->text, sizeof(report->text), "%s%s%s%s ", report->path,
			 script ? " is run by " : "", script ? report->judged : "",
			 script ? ", which" : "");
	va_list ap;

	report->verdict = v;
	report->status = status;
	va_start(ap, format);
	vsnprintf(report->text + n, sizeof(report->text) - (size_t)n, format, ap);
	va_end(ap);
}

/* Does the library fit the program: same machine, same libc. */
static void judge_fit(struct command_report *report, const struct elf_info *elf,
		      const struct elf_info *library)
{
	char a[24], b[24];

	if (elf->bits != library->bits || elf->machine != library->machine ||
	    elf->big_endian != library->big_endian) {
		verdict(report, COMMAND_FOREIGN_MACHINE, CLI_UNAVAILABLE,
			"is a %u-bit %s program, libsockshard.so is for %u-bit %s: it cannot be "
			"loaded there; build sockshard for that machine too and use that one",
			elf->bits, elf_machine_name(elf->machine, a), library->bits,
			elf_machine_name(library->machine, b));
		return;
	}
	if (library->libc != ELF_LIBC_UNKNOWN && elf->libc != library->libc) {
		verdict(report, COMMAND_FOREIGN_LIBC, CLI_UNAVAILABLE,
			"uses %s (%s), libsockshard.so is built for %s: it cannot be loaded there; "
			"build sockshard with that libc's compiler and use that one",
			elf_libc_name(elf->libc), elf->interp, elf_libc_name(library->libc));
		return;
	}
	verdict(report, COMMAND_FITS, 0, "can be preloaded (%u-bit %s, %s)", elf->bits,
		elf_machine_name(elf->machine, a), elf_libc_name(elf->libc));
}

static void judge_elf(struct command_report *report, const struct elf_info *elf,
		      const struct elf_info *library)
{
	struct stat st;

	if (elf->go)
		verdict(report, COMMAND_GO, CLI_UNAVAILABLE,
			"is a Go program: it makes its system calls without libc, a preload never "
			"sees its bind; let it set SO_REUSEPORT itself (net.ListenConfig.Control)");
	else if (elf->interp[0] == '\0')
		verdict(report, COMMAND_STATIC, CLI_UNAVAILABLE,
			"is a static program: a preload cannot reach it; use a dynamically linked "
			"build of it");
	else if (stat(report->judged, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) != 0)
		verdict(report, COMMAND_SETUID, CLI_UNAVAILABLE,
			"is %s: the system drops a preload there; start a copy of it without that "
			"bit",
			(st.st_mode & S_ISUID) != 0 ? "setuid" : "setgid");
	else if (has_capabilities(report->judged))
		verdict(report, COMMAND_CAPABLE, CLI_UNAVAILABLE,
			"has file capabilities: the system drops a preload there; start a copy of "
			"it "
			"without them, and give the right by ambient capabilities (setpriv, "
			"AmbientCapabilities=) or net.ipv4.ip_unprivileged_port_start");
	else if (library != NULL)
		judge_fit(report, elf, library);
	else
		verdict(report, COMMAND_FITS, 0, "is a dynamic program (%s)", elf->interp);
}

/* Follows a script to the program it ends in; returns elf_inspect_file()'s result for that. */
static int follow(struct command_report *report, const char *search, struct elf_info *ret_elf)
{
	char interp[PATH_MAX];
	int r, depth;

	for (depth = 0; depth <= SCRIPT_DEPTH; depth++) {
		r = elf_inspect_file(report->judged, ret_elf);
		if (r != -ENOEXEC)
			return r;
		r = script_interp(report->judged, search, interp);
		if (r <= 0)
			return r < 0 ? r : -ENOEXEC;
		memcpy(report->judged, interp, strlen(interp) + 1);
		if (executable(interp) != 0)
			return -ENOENT;
	}
	return -ELOOP;
}

void command_inspect(const char *command, const char *search, const struct elf_info *library,
		     struct command_report *ret_report)
{
	struct command_report *report = ret_report;
	struct elf_info elf;
	int r;

	memset(report, 0, sizeof(*report));
	r = command_find(command, search, report->path);
	if (r != 0) {
		report->verdict = r == -EACCES ? COMMAND_NOT_EXECUTABLE : COMMAND_NOT_FOUND;
		report->status = r == -EACCES ? CLI_NOT_RUNNABLE : CLI_NOT_FOUND;
		snprintf(report->text, sizeof(report->text), "%s: %s",
			 r == -EACCES ? report->path : command,
			 r == -EACCES ? "cannot be executed" : "command not found");
		return;
	}
	memcpy(report->judged, report->path, sizeof(report->judged));
	r = follow(report, search, &elf);
	if (r == 0)
		judge_elf(report, &elf, library);
	else if (r == -ENOENT || r == -ELOOP)
		verdict(report, COMMAND_NOT_EXECUTABLE, CLI_NOT_RUNNABLE,
			r == -ENOENT ? "is not there or cannot be executed"
				     : "is a script run by a script, more than four deep");
	else if (r == -EBADMSG)
		verdict(report, COMMAND_NOT_EXECUTABLE, CLI_NOT_RUNNABLE,
			"is a damaged program file");
	else
		verdict(report, COMMAND_FITS, 0, "could not be looked into: %s",
			r == -ENOEXEC ? "neither ELF nor #!" : strerror(-r));
}

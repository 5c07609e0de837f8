/* A policy that may live in a file. Runs inside the server too: it must not block on a FIFO. */
#include "parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Returns the number of bytes, at most size; or -errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t used = 0;

	while (used < size) {
		ssize_t r = read(fd, buf + used, size - used);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		used += (size_t)r;
	}
	return (ssize_t)used;
}

/* Returns the number of bytes, at most size; or -errno and the reason in words. */
static ssize_t read_file(const char *path, char *buf, size_t size, const char **ret_why)
{
	struct stat st;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		n = -errno;
		*ret_why = strerror((int)-n);
		return n;
	}
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		n = -EINVAL;
		*ret_why = "not a regular file";
	} else {
		n = read_all(fd, buf, size);
		if (n < 0)
			*ret_why = strerror((int)-n);
	}
	close(fd);
	return n;
}

static int fail_file(const char *source, const char *path, int r, const char *why,
		     struct policy_error *ret_error)
{
	char from[96];
	char file[96];

	snprintf(ret_error->text, sizeof(ret_error->text), "%s: %s: %s",
		 parse_source(source, from, sizeof(from)), parse_source(path, file, sizeof(file)),
		 why);
	return r;
}

int policy_load(const char *source, const char *text, struct policy *ret_policy,
		struct policy_error *ret_error)
{
	const char *path = text + 1;
	const char *why = "";
	char buf[POLICY_TEXT_MAX + 1];
	ssize_t n;

	if (text[0] != '@')
		return policy_parse(source, text, strlen(text), ret_policy, ret_error);
	if (path[0] == '\0') {
		struct parse_text t = {.source = source, .text = text, .n = 1, .error = ret_error};
		return parse_fail(&t, (struct parse_span){.at = path}, "the path of a file");
	}
	n = read_file(path, buf, sizeof(buf), &why);
	if (n < 0)
		return fail_file(source, path, (int)n, why, ret_error);
	if (n > POLICY_TEXT_MAX)
		return fail_file(source, path, -E2BIG, "longer than 16384 bytes", ret_error);
	return policy_parse(path, buf, (size_t)n, ret_policy, ret_error);
}

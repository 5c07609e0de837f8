/* libFuzzer: the parser of sock_diag answers. First byte: odd asks for IPv6; the rest arrives as
 * two buffers, cut where the second byte says (times 16), each in memory of its own size. */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/os/linux_diag.h"

#define FUZZ_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int parse_copy(const uint8_t *data, size_t size, const struct linux_diag_query *query,
		      struct linux_diag_list *list)
{
	uint8_t *copy = malloc(size ? size : 1);
	int r;

	if (!copy)
		return -1;
	memcpy(copy, data, size);
	r = linux_diag_parse(copy, size, query, list);
	free(copy);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct linux_diag_query query = {.proto = IPPROTO_TCP, .port = 8080, .seq = 1};
	struct os_listener entry[FUZZ_MAX];
	struct linux_diag_list list = {.entry = entry, .max = FUZZ_MAX};
	size_t cut;
	int r;

	if (size < 2)
		return 0;
	query.family = data[0] & 1 ? AF_INET6 : AF_INET;
	cut = (size_t)data[1] * 16;
	data += 2;
	size -= 2;
	if (cut > size)
		cut = size;
	r = parse_copy(data, cut, &query, &list);
	if (r == 0)
		r = parse_copy(data + cut, size - cut, &query, &list);
	if (r > 1 || list.n > list.max)
		abort();
	for (size_t i = 0; i < list.n; i++) {
		if (entry[i].addr.port != query.port || entry[i].addr.family != query.family)
			abort();
	}
	return 0;
}

/* libFuzzer over elf_inspect(): any program file a user may name. */
#include <stdlib.h>
#include <string.h>

#include "../../shim/cli/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf_info info;

	memset(&info, 0xff, sizeof(info));
	if (elf_inspect(data, size, &info) != 0)
		return 0;
	if (memchr(info.interp, '\0', sizeof(info.interp)) == NULL)
		abort(); /* the path has its end */
	if (info.bits != 32 && info.bits != 64)
		abort();
	return 0;
}

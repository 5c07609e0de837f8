/* Serves from a listener that a library's constructor made (lib_ctor.c). */
#include <dlfcn.h>

#include "victim.h"

int main(int argc, char **argv)
{
	const int *listener = dlsym(RTLD_DEFAULT, "lib_ctor_listener");

	victim_port(argc, argv);
	if (!listener || *listener < 0) {
		fprintf(stderr, "victim: lib_ctor.c did not listen\n");
		return 1;
	}
	victim_ready();
	victim_serve(*listener, -1);
}

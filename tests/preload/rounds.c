/* Binds, listens and closes 1,000 times, or 200 times in each of several threads, then counts its
 * descriptors and serves.  rounds PORT THREADS; thread i uses PORT + 1 + i */
#include <dirent.h>
#include <pthread.h>

#include "victim.h"

#define ROUNDS	    1000
#define ROUNDS_EACH 200

static int times;

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
		die("/proc/self/fd");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void *rounds(void *arg)
{
	int port = *(int *)arg;

	for (int i = 0; i < times; i++)
		close(victim_listen(port));
	return NULL;
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), n = argc > 2 ? atoi(argv[2]) : 1;
	int before = count_descriptors(), after, ports[64];
	pthread_t threads[64];

	times = n > 1 ? ROUNDS_EACH : ROUNDS;
	for (int i = 0; i < n && i < 64; i++) {
		ports[i] = port + 1 + i;
		if (pthread_create(&threads[i], NULL, rounds, &ports[i]) != 0)
			die("pthread_create");
	}
	for (int i = 0; i < n && i < 64; i++)
		pthread_join(threads[i], NULL);
	after = count_descriptors();
	if (before != after) {
		fprintf(stderr, "victim: %d descriptors before, %d after\n", before, after);
		return 1;
	}
	n = victim_listen(port);
	victim_ready();
	victim_serve(n, -1);
}

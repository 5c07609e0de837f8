/* Binds once, forks 4 workers that accept, and wants segments of the client 127.0.0.9 signed by the key
 * "secret" (tcp(7), TCP_MD5SIG).  keyed PORT WHEN
 *   WHEN  bind, listen, fork: sets the key before that; late: the parent, once it gets SIGUSR1; worker:
 *         each worker, once it has served; gone: set before bind, taken away before the fork
 * SIGUSR1 is one more worker else; SIGTERM ends it and its workers. */
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "victim.h"

#define WORKERS 4

static void set_key(int fd, const char *key)
{
	struct tcp_md5sig sig = {.tcpm_keylen = (uint16_t)strlen(key)};
	struct sockaddr_in peer = {.sin_family = AF_INET};

	peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8);
	memcpy(&sig.tcpm_addr, &peer, sizeof(peer));
	memcpy(sig.tcpm_key, key, strlen(key));
	if (setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &sig, sizeof(sig)) < 0)
		die("TCP_MD5SIG");
}

static void fork_worker(int listener, int keys)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	for (;;) {
		victim_serve(listener, 1);
		if (keys)
			set_key(listener, "secret");
		keys = 0;
	}
}

int main(int argc, char **argv)
{
	int port = victim_port(argc, argv), fd = socket(AF_INET, SOCK_STREAM, 0);
	const char *when = argc > 2 ? argv[2] : "bind";
	sigset_t wake;
	int number;

	sigemptyset(&wake);
	sigaddset(&wake, SIGUSR1);
	sigprocmask(SIG_BLOCK, &wake, NULL);
	if (fd < 0)
		die("socket");
	if (strcmp(when, "bind") == 0 || strcmp(when, "gone") == 0)
		set_key(fd, "secret");
	if (bind_port(fd, port) < 0)
		die("bind");
	if (strcmp(when, "listen") == 0)
		set_key(fd, "secret");
	if (listen(fd, 64) < 0)
		die("listen");
	if (strcmp(when, "fork") == 0)
		set_key(fd, "secret");
	if (strcmp(when, "gone") == 0)
		set_key(fd, "");
	for (int i = 0; i < WORKERS; i++)
		fork_worker(fd, strcmp(when, "worker") == 0);
	victim_ready();
	while (sigwait(&wake, &number) == 0) {
		if (strcmp(when, "late") == 0)
			set_key(fd, "secret");
		else
			fork_worker(fd, 0);
	}
}

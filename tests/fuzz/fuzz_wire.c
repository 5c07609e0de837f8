/* libFuzzer entry for the wire format and for what the keeper does with it. The input is a program:
 * connections come, send right and wrong messages with right and wrong descriptors, and end; time
 * passes; processes die. The keeper's own code answers, with real sockets. Afterwards everything
 * has ended, and nothing may be left: no connection, no held socket, no group, no descriptor. */

/* Its event loop's functions are not for others; here each is called in an order of our choice. */
#define begin begin_request
#include "../../shim/keeper/conn.c"
#undef begin
#include "../../shim/keeper/keeper.c"

#include <dirent.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define PEERS	 6
#define STEPS	 60
#define PORT	 8123
#define LATER_MS 200000000 /* more than the longest hold= */

enum step { CONNECT, MESSAGE, RAW, HANG_UP, DIE, WAIT, ALIEN, STEP_KINDS };

enum attached { NOTHING, SHARED, UNSHARED, UNBOUND, LISTENING, PIPE, UNIX, MEMFD, PIDFD, KINDS };

static struct keeper *keeper;
static const uint8_t *input;
static size_t left;
static int peer[PEERS]; /* the other end of a connection, or -1 */
static int conn_of[PEERS];
static unsigned fds_before;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(holds)                                                                             \
	do {                                                                                       \
		if (!(holds)) {                                                                    \
			(void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds);  \
			abort(); /* libFuzzer reports it with the input */                         \
		}                                                                                  \
	} while (0)

static uint8_t next_byte(void)
{
	if (left == 0)
		return 0;
	left--;
	return *input++;
}

/* What the event loop does after each event. */
static void settle(void)
{
	give_run(keeper);
	state_commit(keeper);
}

/* The process behind a connection ends: as conn_process_ended(), without its proof. */
static void die(int conn)
{
	struct conn *c = &keeper->conn[conn];

	unwatch_and_close(keeper, c->pidfd);
	c->pidfd = NONE;
	c->dead = true;
	conn_changed(keeper, conn);
	settle();
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	require(dir != NULL);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static struct addr choose_address(uint8_t choice)
{
	struct addr a = {.proto = choice & 1 ? IPPROTO_UDP : IPPROTO_TCP, .port = PORT};

	a.family = choice & 2 ? AF_INET6 : AF_INET;
	if (!(choice & 4) && a.family == AF_INET)
		memcpy(a.ip, (uint8_t[]){127, 0, 0, 1}, 4);
	else if (!(choice & 4))
		a.ip[15] = 1;
	a.v6only = a.family == AF_INET6 && !(choice & 4 && choice & 8);
	return a;
}

static int open_inet(const struct addr *a, enum attached kind)
{
	int type = a->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM, on = 1, only = a->v6only;
	int fd = socket(a->family, type | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);

	if (kind != UNSHARED)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (a->family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	if (kind != UNBOUND && (a->proto == IPPROTO_TCP || kind == LISTENING))
		(void)bind(fd, (struct sockaddr *)&ss, len);
	if (kind == LISTENING)
		(void)listen(fd, 1);
	return fd;
}

static int open_attached(const struct addr *a, enum attached kind)
{
	int pipes[2];

	switch (kind) {
	case PIPE:
		require(pipe2(pipes, O_CLOEXEC) == 0);
		close(pipes[1]);
		return pipes[0];
	case UNIX:
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case MEMFD:
		return memfd_create("x", MFD_CLOEXEC);
	case PIDFD:
		return (int)syscall(SYS_pidfd_open, getpid(), 0);
	default:
		return open_inet(a, kind);
	}
}

/* What the keeper has sent: descriptors among it are ours to close. */
static void read_answers(int fd)
{
	struct wire_packet p;

	while (wire_receive(sys_get(), fd, MSG_DONTWAIT, &p) == 1)
		wire_close_fds(sys_get(), &p);
}

/* Has the keeper ended this connection? */
static void notice_end(unsigned i)
{
	const struct conn *c = &keeper->conn[conn_of[i]];

	if (c->used && c->fd != NONE)
		return;
	close(peer[i]);
	peer[i] = -1;
}

static void keeper_reads(unsigned i)
{
	const struct conn *c = &keeper->conn[conn_of[i]];

	require(c->used && c->fd != NONE);
	conn_receive(keeper, conn_of[i]);
	settle();
	read_answers(peer[i]);
	notice_end(i);
}

static void do_connect(void)
{
	int pair[2];

	for (unsigned i = 0; i < PEERS; i++) {
		if (peer[i] != -1)
			continue;
		require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
		require(conn_admit(keeper, pair[0]) == 0);
		peer[i] = pair[1];
		conn_of[i] = 0;
		while (!keeper->conn[conn_of[i]].used || keeper->conn[conn_of[i]].fd != pair[0])
			conn_of[i]++;
		return;
	}
}

/* A right message of a type, as far as there is one. */
static void fill(struct wire_packet *p, const struct addr *a, uint8_t choice, int fd)
{
	struct member *held = &keeper->members[choice % 4];
	socklen_t len = sizeof(p->body.join.cookie);

	switch (p->head.type) {
	case WIRE_HELLO:
		p->body.hello.version_min = p->body.hello.version_max = WIRE_VERSION;
		p->body.hello.role = 1 + choice % 3;
		break;
	case WIRE_RESERVE:
		p->body.reserve.addr = *a;
		p->body.reserve.group[0] = (char)('a' + (choice >> 6));
		p->body.reserve.hold_ms = 100u << (choice & 15);
		p->body.reserve.slot = choice & 32 ? WIRE_SLOT_ANY : (choice >> 4 & 1);
		p->body.reserve.weight = 1;
		break;
	case WIRE_JOIN:
	case WIRE_BOUND:
		p->body.join.addr = *a;
		p->body.join.backlog = choice;
		if (fd >= 0)
			(void)getsockopt(fd, SOL_SOCKET, SO_COOKIE, &p->body.join.cookie, &len);
		break;
	case WIRE_LEAVE:
	case WIRE_CLEAN_EXIT:
		p->body.leave.action = WIRE_CLOSED + choice % 6;
		break;
	case WIRE_CLAIM:
		p->body.claim.want = (choice >> 2) % (WIRE_WANT_HOLD + 2);
		if (!held->used)
			break;
		if (choice & 64 && held->page.at) /* whoever has the page may touch it at any time */
			atomic_store(&held->page.at->claimed, choice & 3);
		memcpy(p->body.claim.token, held->token, WIRE_TOKEN);
		if (choice & 128 && fd < 0) { /* the very socket, as after an exec */
			p->body.claim.cookie = held->cookie;
			p->fds[p->n_fds++] = fcntl(held->fd, F_DUPFD_CLOEXEC, 0);
		}
		break;
	case WIRE_REGISTER:
		p->body.reg.group[0] = (char)('a' + (choice >> 6));
		p->body.reg.n = 1 + (choice & 3);
		break;
	case WIRE_GIVE_UP:
		p->body.slot.slot = choice & 3;
		break;
	default:
		break;
	}
}

static void do_message(unsigned i)
{
	struct wire_packet p;
	struct addr a;
	unsigned changes;
	uint8_t choice;

	memset(&p, 0, sizeof(p));
	p.fds[0] = p.fds[1] = -1;
	p.head.type = (uint16_t)(next_byte() % WIRE_TYPES);
	a = choose_address(next_byte());
	choice = next_byte();
	for (uint8_t kinds = next_byte(); kinds % KINDS != NOTHING && p.n_fds < WIRE_FDS_MAX;
	     kinds /= KINDS)
		p.fds[p.n_fds++] = open_attached(&a, kinds % KINDS);
	fill(&p, &a, choice, p.fds[0]);
	for (changes = next_byte() % 4; changes > 0; changes--) {
		size_t at = next_byte() | (size_t)next_byte() << 8;

		p.body.bytes[at % sizeof(p.body.bytes)] = next_byte();
	}
	if (wire_send(sys_get(), peer[i], &p, MSG_DONTWAIT) == 0)
		keeper_reads(i);
	wire_close_fds(sys_get(), &p);
}

static void do_raw(unsigned i)
{
	uint8_t bytes[64];
	size_t n = next_byte() % sizeof(bytes);

	for (size_t b = 0; b < n; b++)
		bytes[b] = next_byte();
	if (send(peer[i], bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		keeper_reads(i);
}

static void hang_up(unsigned i)
{
	if (peer[i] == -1)
		return;
	close(peer[i]);
	peer[i] = -1;
	conn_receive(keeper, conn_of[i]);
	settle();
}

static void do_step(void)
{
	enum step step = next_byte() % STEP_KINDS;
	unsigned i = next_byte() % PEERS;
	struct conn *c;

	if (step == CONNECT) {
		do_connect();
		return;
	}
	if (step == WAIT) {
		keeper->now += (int64_t)next_byte() * 50;
		(void)on_time(keeper, INT32_MAX);
		settle();
		for (i = 0; i < PEERS; i++) /* who was silent is out */
			if (peer[i] != -1)
				notice_end(i);
		return;
	}
	if (peer[i] == -1)
		return;
	c = &keeper->conn[conn_of[i]];
	switch (step) {
	case MESSAGE:
		do_message(i);
		break;
	case RAW:
		do_raw(i);
		break;
	case HANG_UP:
		hang_up(i);
		break;
	case DIE:
		if (c->pidfd != NONE)
			die(conn_of[i]);
		break;
	case ALIEN:
		keeper->foreign += !c->foreign;
		c->foreign = true;
		break;
	default:
		break;
	}
}

/* Everybody goes, and every patience ends. */
static void end_all(void)
{
	for (unsigned i = 0; i < PEERS; i++)
		hang_up(i);
	for (int i = 0; i < keeper->conn_top; i++)
		if (keeper->conn[i].used && keeper->conn[i].pidfd != NONE)
			die(i);
	for (int rounds = 0; rounds < 3; rounds++) {
		keeper->now += LATER_MS;
		keeper->idle_since = keeper->now;
		(void)on_time(keeper, INT32_MAX);
		settle();
	}
}

static void check_nothing_left(void)
{
	require(keeper->conns == 0 && keeper->foreign == 0 && !keeper->ending);
	for (int i = 0; i < keeper->conn_top; i++)
		require(!keeper->conn[i].used);
	for (int i = 0; i < keeper->member_top; i++)
		require(!keeper->members[i].used);
	for (int i = 0; i < keeper->group_top; i++)
		require(!keeper->groups[i].used);
	require(count_fds() == fds_before);
}

/* wire_check() alone: in memory of the packet's own size, so that a byte too far is seen. */
static void check_bytes(const uint8_t *data, size_t size)
{
	struct wire_head head = {.magic = WIRE_MAGIC, .length = (uint16_t)size};
	struct wire_packet p;
	uint8_t *copy = malloc(size ? size : 1);

	require(copy != NULL);
	memcpy(copy, data, size);
	(void)wire_check(copy, size, &p);
	if (size >= sizeof(head) && size <= UINT16_MAX) { /* again, with a right head */
		head.type = (uint16_t)(data[4] % (WIRE_TYPES + 1));
		memcpy(copy, &head, sizeof(head));
		if (wire_check(copy, size, &p) == 0) {
			require(head.type != 0 && head.type < WIRE_TYPES && size <= WIRE_MAX);
			for (size_t b = size - sizeof(head); b < (size_t)wire_body_size(head.type); b++)
				require(p.body.bytes[b] == 0); /* fields that its sender does not know */
		}
	}
	free(copy);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct shared *shared;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	shared = snapshot_make();
	require(shared != NULL);
	keeper = snapshot_new(shared);
	require(keeper != NULL);
	keeper->sys = sys_get();
	keeper->os = os_get();
	keeper->uid = (uint32_t)geteuid();
	keeper->listener = NONE;
	keeper->accept_at = keeper->vault_at = NEVER;
	keeper->now = monotonic_ms();
	keeper->epoll = epoll_create1(EPOLL_CLOEXEC);
	require(keeper->epoll >= 0);
	keeper->diag = keeper->os->listeners_open();
	for (unsigned i = 0; i < PEERS; i++)
		peer[i] = -1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_bytes(data, size);
	input = data;
	left = size;
	fds_before = count_fds();
	for (unsigned steps = 0; left > 0 && steps < STEPS; steps++)
		do_step();
	end_all();
	check_nothing_left();
	return 0;
}

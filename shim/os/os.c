/* Which backend this was built for, what it refuses, and what backends have in common. Names no
 * system but the one chosen by SOCKSHARD_OS. */
#include "backend.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

const struct os *os_get(void)
{
	return &SOCKSHARD_OS;
}

int backend_why(char why[OS_WHY_MAX], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, OS_WHY_MAX, format, args);
	va_end(args);
	return -ENOTSUP;
}

int os_refuse(const struct os *os, const struct addr *addr, char why[OS_WHY_MAX])
{
	char text[ADDR_TEXT_MAX];
	unsigned need;

	switch (addr->proto) {
	case IPPROTO_TCP:
		need = OS_BALANCE_TCP;
		break;
	case IPPROTO_UDP:
		need = OS_BALANCE_UDP;
		break;
	default:
		return backend_why(why, "only TCP and UDP can be balanced, not protocol %u",
				   addr->proto);
	}
	addr_format(addr, text, sizeof(text));
	if (!(os->caps & need)) {
		return backend_why(why, "%s cannot balance %s %s: %s", os->name,
				   need == OS_BALANCE_TCP ? "TCP" : "UDP", text,
				   os->no_balance ? os->no_balance : "its kernel does not do it");
	}
	if (addr->family != AF_INET6)
		return 0;
	if (!(os->caps & OS_BALANCE_IPV6)) {
		return backend_why(why,
				   "%s balances IPv4 only, %s would go to one listener:"
				   " bind an IPv4 address",
				   os->name, text);
	}
	if (!os->dual_stack && !addr->v6only && addr_is_wildcard(addr)) {
		return backend_why(why,
				   "%s does not balance the dual-stack %s:"
				   " bind 0.0.0.0 and, with IPV6_V6ONLY, [::] separately",
				   os->name, text);
	}
	return 0;
}

int backend_set(const struct sys *sys, int fd, int name, bool on)
{
	int value = on;

	return sys->setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

int backend_is_set(const struct sys *sys, int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (sys->getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0)
		return value != 0; /* the BSDs return the option's bit, not 1 */
	return errno == ENOPROTOOPT ? 0 : -errno;
}

int backend_refuse_share(const struct os *os, const struct addr *addr, char why[OS_WHY_MAX])
{
	int r = os_refuse(os, addr, why);

	return r < 0 ? r : backend_why(why, "%s cannot balance", os->name);
}

int backend_no_attach(const struct sys *sys, int fd, const void *program, unsigned n)
{
	(void)sys;
	(void)fd;
	(void)program;
	(void)n;
	return -ENOTSUP;
}

int backend_no_cookie(const struct sys *sys, int fd, uint64_t *ret_cookie)
{
	(void)sys;
	(void)fd;
	(void)ret_cookie;
	return -ENOTSUP;
}

int backend_no_queue(const struct sys *sys, int fd, unsigned *ret_waiting, unsigned *ret_backlog)
{
	(void)sys;
	(void)fd;
	(void)ret_waiting;
	(void)ret_backlog;
	return -ENOTSUP;
}

int backend_no_listeners_open(void)
{
	return -ENOTSUP;
}

int backend_no_accepted(int diag_fd, uint8_t family, uint16_t port, struct os_listener *ret, size_t max)
{
	(void)family;
	return backend_no_connections(diag_fd, port, ret, max);
}

int backend_no_connections(int diag_fd, uint16_t port, struct os_listener *ret, size_t max)
{
	(void)diag_fd;
	(void)port;
	(void)ret;
	(void)max;
	return -ENOTSUP;
}

int backend_no_listeners(int diag_fd, uint8_t proto, uint16_t port, struct os_listener *ret,
			 size_t max)
{
	(void)diag_fd;
	(void)proto;
	(void)port;
	(void)ret;
	(void)max;
	return -ENOTSUP;
}

void backend_no_unshare(const struct sys *sys, int fd, const struct addr *addr, bool had_port,
			bool had_addr)
{
	(void)sys;
	(void)fd;
	(void)addr;
	(void)had_port;
	(void)had_addr;
}

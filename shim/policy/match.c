/* Which rule an address meets. Called on every bind: no allocation, no text. */
#include "policy.h"

#include <netinet/in.h>
#include <string.h>

static bool ip_covered(const struct policy_rule *rule, const uint8_t *ip)
{
	size_t bytes = rule->prefix / 8;
	unsigned bits = rule->prefix % 8;

	if (memcmp(rule->ip, ip, bytes) != 0)
		return false;
	return bits == 0 || ((rule->ip[bytes] ^ ip[bytes]) & (uint8_t)(0xff00u >> bits)) == 0;
}

const struct policy_rule *policy_match(const struct policy *policy, const struct addr *addr)
{
	/* An IPv6 socket bound to ::ffff:1.2.3.4 gets IPv4 traffic, so IPv4 rules are its rules. */
	struct addr a = addr_unmap(addr);
	unsigned proto = 0;

	if (a.proto == IPPROTO_TCP)
		proto = POLICY_TCP;
	else if (a.proto == IPPROTO_UDP)
		proto = POLICY_UDP;
	for (size_t i = 0; i < policy->n; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (!(rule->protos & proto) || a.port < rule->port_first ||
		    a.port > rule->port_last)
			continue;
		if (rule->family == AF_UNSPEC ||
		    (rule->family == a.family && ip_covered(rule, a.ip)))
			return rule;
	}
	return NULL;
}

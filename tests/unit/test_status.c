/* cli/status_data.c, status_json.c and status_table.c */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/cli/status.h"
#include "../../shim/policy/policy.h"

static struct wire_packet group(const char *name, uint8_t proto, uint16_t port)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS_GROUP;
	p.body.group.addr.proto = proto;
	p.body.group.addr.family = AF_INET;
	p.body.group.addr.port = port;
	memcpy(p.body.group.addr.ip, "\x7f\0\0\1", 4);
	strcpy(p.body.group.group, name);
	p.body.group.mode = POLICY_BALANCE;
	p.body.group.key = POLICY_KEY_FLOW;
	p.body.group.steered = 1;
	p.body.group.buckets = 256;
	return p;
}

static struct wire_packet slot(uint32_t number, uint32_t generation)
{
	struct wire_packet p;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS_SLOT;
	p.body.status_slot.slot = number;
	p.body.status_slot.generation = generation;
	p.body.status_slot.pid = 10 + number;
	p.body.status_slot.state = WIRE_LIVE;
	p.body.status_slot.weight = 1;
	p.body.status_slot.buckets = 64;
	p.body.status_slot.accepted = 1000;
	p.body.status_slot.supervised = 1;
	p.body.status_slot.owners = 1;
	return p;
}

static struct wire_packet stranger(const char *command, uint32_t index)
{
	struct wire_packet p = group("", IPPROTO_TCP, 8080);
	struct addr addr = p.body.group.addr;

	memset(&p, 0, sizeof(p));
	p.head.type = WIRE_STATUS_STRANGER;
	p.body.stranger.pid = 77;
	p.body.stranger.uid = 1000;
	p.body.stranger.index = index;
	p.body.stranger.addr = addr;
	memcpy(p.body.stranger.command, command, strlen(command));
	return p;
}

static void add(struct status *s, struct wire_packet p)
{
	assert_int_equal(status_add(s, &p), 0);
}

static struct status begin(void)
{
	struct status s = {.keeper_pid = 1};

	strcpy(s.keeper.version, "0.1.0");
	return s;
}

/* The caller frees it. */
static char *written(void (*write)(FILE *to, const struct status *s), const struct status *s)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	assert_non_null(to);
	write(to, s);
	fclose(to);
	return text;
}

static void writes(const struct status *s, const char *json)
{
	char *text = written(status_json, s);

	assert_string_equal(text, json);
	free(text);
}

static void without_a_keeper_the_json_says_so(void **state)
{
	(void)state;
	writes(NULL, "{\"keeper\":null,\"groups\":[]}\n");
}

static void the_json_has_the_published_form(void **state)
{
	struct status s = begin();

	(void)state;
	writes(&s, "{\"keeper\":{\"pid\":1,\"vault\":null,\"version\":\"0.1.0\"},\"groups\":[]}\n");
	s.keeper.vault = 2;
	add(&s, group("x", IPPROTO_TCP, 8080));
	add(&s, slot(0, 1));
	writes(&s, "{\"keeper\":{\"pid\":1,\"vault\":2,\"version\":\"0.1.0\"},"
		   "\"groups\":[{\"proto\":\"tcp\","
		   "\"address\":\"127.0.0.1:8080\",\"group\":\"x\",\"mode\":\"balance\","
		   "\"key\":\"flow\",\"steered\":true,\"buckets\":256,\"lost\":0,\"strangers\":[],"
		   "\"slots\":[{\"slot\":0,\"pid\":10,\"generation\":1,\"state\":\"live\","
		   "\"weight\":1,\"buckets\":64,\"queue\":0,\"accepted\":1000,\"given\":0,"
		   "\"supervised\":true,\"parent\":null,\"owners\":1}]}]}\n");
	status_free(&s);
}

static void a_worker_is_shown_with_its_parent(void **state)
{
	struct wire_packet p = slot(1, 1);
	struct status s = begin();
	char *text;

	(void)state;
	p.body.status_slot.parent = 4711;
	p.body.status_slot.owners = 3;
	p.body.status_slot.supervised = 0;
	add(&s, group("x", IPPROTO_TCP, 8080));
	add(&s, p);
	text = written(status_json, &s);
	assert_non_null(strstr(text, "\"supervised\":false,\"parent\":4711,\"owners\":3}"));
	free(text);
	text = written(status_table, &s);
	assert_non_null(strstr(text, "  worker of 4711  3 processes accept\n"));
	assert_null(strstr(text, "unsupervised"));
	free(text);
	status_free(&s);
}

static void strangers_are_objects_with_a_safe_name(void **state)
{
	struct status s = begin();
	char *text;

	(void)state;
	add(&s, group("", IPPROTO_UDP, 53));
	add(&s, stranger("a\"b\\c\n\xff\xc3\xa9", 2));
	add(&s, stranger("nc", UINT32_MAX));
	text = written(status_json, &s);
	assert_non_null(strstr(text, "\"proto\":\"udp\""));
	assert_non_null(strstr(text, "\"strangers\":[{\"pid\":77,\"uid\":1000,"
				     "\"command\":\"a\\\"b\\\\c\\u000a\\ufffd\xc3\xa9\","
				     "\"address\":\"127.0.0.1:8080\",\"index\":2},"));
	assert_non_null(
		strstr(text, "\"command\":\"nc\",\"address\":\"127.0.0.1:8080\",\"index\":null}]"));
	free(text);
	status_free(&s);
}

static void half_a_character_is_not_passed_on(void **state)
{
	static const char *const broken[] = {"\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80",
					     "\xe2\x82"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct status s = begin();
		const char *c;
		char *text;

		add(&s, group("", IPPROTO_TCP, 1));
		add(&s, stranger(broken[i], 0));
		text = written(status_json, &s);
		assert_non_null(strstr(text, "\\ufffd"));
		for (c = text; *c != '\0'; c++)
			assert_true((unsigned char)*c < 0x80);
		free(text);
		status_free(&s);
	}
}

static void slots_are_sorted_and_belong_to_the_group_before_them(void **state)
{
	struct status s = begin();

	(void)state;
	add(&s, group("a", IPPROTO_TCP, 80));
	add(&s, slot(2, 1));
	add(&s, slot(0, 2));
	add(&s, slot(0, 1));
	add(&s, group("b", IPPROTO_TCP, 81));
	add(&s, slot(1, 1));
	assert_int_equal(s.n_groups, 2);
	assert_int_equal(s.groups[0].n_slots, 3);
	assert_int_equal(s.groups[0].slots[0].generation, 1);
	assert_int_equal(s.groups[0].slots[1].generation, 2);
	assert_int_equal(s.groups[0].slots[2].slot, 2);
	assert_int_equal(s.groups[1].n_slots, 1);
	assert_int_equal(status_keep(&s, "b"), 1);
	assert_int_equal(s.groups[0].head.addr.port, 81);
	assert_int_equal(status_keep(&s, "a"), 0);
	status_free(&s);
}

static void a_slot_without_a_group_is_refused(void **state)
{
	struct wire_packet p = slot(0, 1);
	struct status s = begin();

	(void)state;
	assert_int_equal(status_add(&s, &p), -EPROTO);
	p = stranger("x", 0);
	assert_int_equal(status_add(&s, &p), -EPROTO);
	p.head.type = WIRE_EVENT_LIVE; /* of no interest */
	assert_int_equal(status_add(&s, &p), 0);
	assert_int_equal(s.n_groups, 0);
}

static void text_of_the_wire_always_ends(void **state)
{
	struct wire_packet p = group("", IPPROTO_TCP, 1);
	struct status s = begin();

	(void)state;
	memset(p.body.group.group, 'g', sizeof(p.body.group.group));
	memset(p.body.group.why, 'w', sizeof(p.body.group.why));
	add(&s, p);
	assert_int_equal(strlen(s.groups[0].head.group), sizeof(p.body.group.group) - 1);
	assert_int_equal(strlen(s.groups[0].head.why), sizeof(p.body.group.why) - 1);
	status_free(&s);
}

static void the_table_names_strangers_and_reasons(void **state)
{
	struct wire_packet p = group("x", IPPROTO_TCP, 8080);
	struct status s = begin();
	char *text;

	(void)state;
	strcpy(s.keeper.service, "web.service");
	p.body.group.steered = 0;
	strcpy(p.body.group.why, "BPF was refused");
	add(&s, p);
	p = slot(3, 1);
	p.body.status_slot.state = WIRE_ORPHAN;
	p.body.status_slot.supervised = 0;
	add(&s, p);
	add(&s, stranger("evil\033[2J", 1));
	text = written(status_table, &s);
	assert_non_null(strstr(text, "lives and dies with web.service"));
	assert_non_null(strstr(text, "not steered: BPF was refused"));
	assert_non_null(strstr(text, "orphan"));
	assert_non_null(strstr(text, "unsupervised"));
	assert_non_null(strstr(text, "evil\\x1b[2J (pid 77, uid 1000)"));
	assert_null(strchr(text, '\033'));
	free(text);
	status_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_keeper_the_json_says_so),
		cmocka_unit_test(the_json_has_the_published_form),
		cmocka_unit_test(a_worker_is_shown_with_its_parent),
		cmocka_unit_test(strangers_are_objects_with_a_safe_name),
		cmocka_unit_test(half_a_character_is_not_passed_on),
		cmocka_unit_test(slots_are_sorted_and_belong_to_the_group_before_them),
		cmocka_unit_test(a_slot_without_a_group_is_refused),
		cmocka_unit_test(text_of_the_wire_always_ends),
		cmocka_unit_test(the_table_names_strangers_and_reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

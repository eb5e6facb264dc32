/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of wire/link.c: what a packet of each type may look like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "wire/link.h"

/* The rules once more, from the comments in link.h. */
static const struct {
	uint16_t type;
	size_t fds;
	bool data;
} rules[] = {
	{LINK_EXPORT, 1, true},
	{LINK_CONNECT, 1, false},
	{LINK_SEAL, 0, false},
	{LINK_READY, 0, false},
	{LINK_CONTROL, 1, false},
	{LINK_TCP_OPEN, 1, false},
	{LINK_DNS_QUERY, 0, true},
	{LINK_TCP_ACCEPT, 0, false},
	{LINK_TCP_REFUSE, 0, false},
	{LINK_TCP_RESET, 0, false},
	{LINK_DNS_ANSWER, 0, true},
	{LINK_UDP_OUT, 0, true},
	{LINK_UDP_IN, 0, true},
	{LINK_UDP_REFUSE, 0, false},
	{LINK_SSH_AGENT, 1, false},
};

#define HEAD sizeof(struct link_msg)

static void every_type_has_its_shape(void **state)
{
	struct link_packet p = {0};

	assert_int_equal(ARRAY_SIZE(rules), LINK_TYPES - 1);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		p.m = (struct link_msg){.type = rules[i].type};
		for (size_t fds = 0; fds <= 8; fds++)
			assert_int_equal(link_check(&p, HEAD, fds), fds == rules[i].fds);
		p.m.len = 7;
		assert_int_equal(link_check(&p, HEAD + 7, rules[i].fds), rules[i].data);
		p.m.len = LINK_DATA_MAX;
		assert_int_equal(link_check(&p, HEAD + LINK_DATA_MAX, rules[i].fds), rules[i].data);
		assert_string_not_equal(link_type_name(rules[i].type), "unknown");
	}
}

static void lengths_must_agree(void **state)
{
	static const struct {
		uint32_t len;
		size_t size;
		bool good;
	} cases[] = {
		{0, HEAD, true},
		{0, HEAD + 1, false},
		{1, HEAD, false},
		{5, HEAD + 4, false},
		{5, HEAD + 5, true},
		{5, HEAD + 6, false},
		{LINK_DATA_MAX + 1, HEAD + LINK_DATA_MAX + 1, false},
		{UINT32_MAX, HEAD + UINT32_MAX, false},
		{UINT32_MAX, HEAD - 1, false},
		{0, HEAD - 1, false},
		{0, 2, false},
		{0, 0, false},
	};
	struct link_packet p = {.m = {.type = LINK_DNS_QUERY}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		p.m.len = cases[i].len;
		assert_int_equal(link_check(&p, cases[i].size, 0), cases[i].good);
	}
}

/* Nothing behind a short packet's end may be read: the rest is poisoned by its absence. */
static void short_packets_are_not_read(void **state)
{
	for (size_t n = 0; n < HEAD; n++) {
		uint8_t *bytes = xmalloc(n);

		for (size_t i = 0; i < n; i++)
			bytes[i] = 1;
		assert_false(link_check((const struct link_packet *)(const void *)bytes, n, 0));
		free(bytes);
	}
}

static void unknown_types(void **state)
{
	static const uint16_t types[] = {0, LINK_TYPES, LINK_TYPES + 1, 255, 256, UINT16_MAX};
	struct link_packet p = {0};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		p.m.type = types[i];
		for (size_t fds = 0; fds <= 2; fds++)
			assert_false(link_check(&p, HEAD, fds));
		assert_string_equal(link_type_name(types[i]), "unknown");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_has_its_shape),
		cmocka_unit_test(lengths_must_agree),
		cmocka_unit_test(short_packets_are_not_read),
		cmocka_unit_test(unknown_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

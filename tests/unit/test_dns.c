/* SPDX-License-Identifier: Apache-2.0 */
/* DNS towards the guest, and the synthetic names behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "gate/dns.h"

static const uint8_t key[16] = "0123456789abcdef";

/* A question: header with flags and counts, the name's wire form, type and class. */
static size_t question(uint8_t *to, unsigned flags, const char *name, unsigned type, unsigned class)
{
	const uint8_t head[12] = {0xbe, 0xef, (uint8_t)(flags >> 8), (uint8_t)flags, 0, 1};
	size_t n = sizeof(head);

	memcpy(to, head, n);
	while (*name) {
		size_t len = strcspn(name, ".");

		to[n++] = (uint8_t)len;
		memcpy(to + n, name, len);
		n += len;
		name += len + (name[len] == '.');
	}
	to[n++] = 0;
	to[n++] = (uint8_t)(type >> 8);
	to[n++] = (uint8_t)type;
	to[n++] = (uint8_t)(class >> 8);
	to[n++] = (uint8_t) class;
	return n;
}

static const uint8_t opt_record[] = {0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0};

static void test_parse(void **state)
{
	uint8_t msg[600];
	struct dns_query q;
	size_t n = question(msg, 0x0120, "WwW.Example.com", DNS_A, 1);

	assert_int_equal(dns_parse(msg, n, &q), DNS_NOERROR);
	assert_int_equal(q.id, 0xbeef);
	assert_true(q.rd);
	assert_false(q.edns);
	assert_int_equal(q.type, DNS_A);
	assert_string_equal(q.name, "www.example.com");
	assert_int_equal(q.question_len, n - 12);
	assert_memory_equal(q.question, msg + 12, n - 12);

	memcpy(msg + n, opt_record, sizeof(opt_record));
	msg[11] = 1;
	assert_int_equal(dns_parse(msg, n + sizeof(opt_record), &q), DNS_NOERROR);
	assert_true(q.edns);
	/* Every truncation is either dropped or a format error. */
	for (size_t i = 0; i < n + sizeof(opt_record); i++) {
		_free_ uint8_t *exact = xmalloc(i ? i : 1);

		memcpy(exact, msg, i);
		assert_int_equal(dns_parse(exact, i, &q), i < 12 ? -1 : DNS_FORMERR);
	}
}

static void test_parse_hostile(void **state)
{
	static const struct {
		unsigned flags;
		const char *name;
		unsigned type, class;
		int want;
	} t[] = {
		{0x0100, "", 2, 1, DNS_NOERROR},
		{0x0100, "a_b.test", 16, 1, DNS_NOERROR},
		{0x8100, "a.test", 1, 1, -1},
		{0x0900, "a.test", 1, 1, DNS_NOTIMP},
		{0x2800, "a.test", 1, 1, DNS_NOTIMP},
		{0x0300, "a.test", 1, 1, DNS_FORMERR},
		{0x0100, "a.test", 1, 3, DNS_REFUSED},
		{0x0100, "a.test", 1, 255, DNS_REFUSED},
		{0x0100, "a.test", 252, 1, DNS_REFUSED},
		{0x0100, "a b.test", 1, 1, DNS_NXDOMAIN},
		{0x0100, "*.test", 1, 1, DNS_NXDOMAIN},
		{0x0100, "10.0.0.1", 1, 1, DNS_NXDOMAIN},
		{0x0100, "b\xc3\xbc.test", 1, 1, DNS_NXDOMAIN},
		{0x0100, "-a.test", 1, 1, DNS_NXDOMAIN},
	};
	uint8_t msg[2048] = {0};
	struct dns_query q;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		n = question(msg, t[i].flags, t[i].name, t[i].type, t[i].class);
		if (dns_parse(msg, n, &q) != t[i].want)
			fail_msg("%s gave %d", t[i].name, dns_parse(msg, n, &q));
	}
	/* Counts other than one question, trailing bytes. */
	n = question(msg, 0x0100, "a.test", 1, 1);
	for (size_t at = 4; at < 12; at++) {
		msg[at] ^= 2;
		assert_int_equal(dns_parse(msg, n, &q), DNS_FORMERR);
		msg[at] ^= 2;
	}
	assert_int_equal(dns_parse(msg, n + 1, &q), DNS_FORMERR);
	/* Longer than any question. */
	assert_int_equal(dns_parse(msg, DNS_QUERY_MAX + 1, &q), -1);
	/* A dot inside a label is not a label boundary. */
	n = question(msg, 0x0100, "aXb.test", 1, 1);
	msg[14] = '.';
	assert_int_equal(dns_parse(msg, n, &q), DNS_NXDOMAIN);
	assert_string_equal(q.name, "");
	msg[14] = '\0';
	assert_int_equal(dns_parse(msg, n, &q), DNS_NXDOMAIN);
	/* Compression pointer: to itself, and as a label type. */
	n = question(msg, 0x0100, "a.test", 1, 1);
	msg[12] = 0xc0;
	msg[13] = 12;
	assert_int_equal(dns_parse(msg, n, &q), DNS_FORMERR);
	msg[12] = 0x41;
	assert_int_equal(dns_parse(msg, n, &q), DNS_FORMERR);
	/* EDNS twice, with a name, of another version. */
	n = question(msg, 0x0100, "a.test", 1, 1);
	msg[11] = 2;
	memcpy(msg + n, opt_record, sizeof(opt_record));
	memcpy(msg + n + sizeof(opt_record), opt_record, sizeof(opt_record));
	assert_int_equal(dns_parse(msg, n + 2 * sizeof(opt_record), &q), DNS_FORMERR);
	msg[11] = 1;
	msg[n + 6] = 1;
	assert_int_equal(dns_parse(msg, n + sizeof(opt_record), &q), DNS_BADVERS);
}

static void test_name_lengths(void **state)
{
	char name[300];
	uint8_t msg[600];
	struct dns_query q;

	/* 4 labels: 63 + 63 + 63 + 61 + 3 dots = 253 characters, 255 bytes on the wire. */
	memset(name, 'a', sizeof(name));
	name[63] = name[127] = name[191] = '.';
	name[253] = '\0';
	assert_int_equal(dns_parse(msg, question(msg, 0x0100, name, 1, 1), &q), DNS_NOERROR);
	assert_string_equal(q.name, name);
	name[253] = 'a';
	name[254] = '\0';
	assert_int_equal(dns_parse(msg, question(msg, 0x0100, name, 1, 1), &q), DNS_FORMERR);
	memset(name, 'a', 64);
	name[64] = '\0';
	assert_int_equal(dns_parse(msg, question(msg, 0x0100, name, 1, 1), &q), DNS_FORMERR);
}

/* Ask @names; the answer goes to @out. Returns the rcode in the header. */
static int ask(
	struct names *names, const char *name, unsigned type, bool reachable, struct buf *out)
{
	uint8_t msg[600];
	struct dns_query q;
	int rcode = dns_parse(msg, question(msg, 0x0100, name, type, 1), &q);

	buf_reset(out);
	assert_true(rcode >= 0);
	assert_int_equal(dns_local(&q, rcode, names, reachable, out), 0);
	assert_true(buf_len(out) <= DNS_ANSWER_MAX);
	return buf_head(out)[3] & 0xf;
}

static unsigned answers(const struct buf *b)
{
	return buf_head(b)[6] << 8 | buf_head(b)[7];
}

static void test_local(void **state)
{
	static const uint8_t expect[] = {0xbe, 0xef, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 'A', 4,
		't', 'e', 's', 't', 0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18,
		0, 1};
	static const uint8_t ptr[] = {1, 'a', 4, 't', 'e', 's', 't', 0};
	struct names *names = names_new(key);
	_buf_ struct buf out;

	buf_init(&out, DNS_ANSWER_MAX);
	/* The question comes back with its spelling; the answer is the first synthetic address. */
	assert_int_equal(ask(names, "A.test", DNS_A, true, &out), DNS_NOERROR);
	assert_int_equal(buf_len(&out), sizeof(expect));
	assert_memory_equal(buf_head(&out), expect, sizeof(expect));
	/* The same name, whatever its spelling and whatever the rules say now, keeps it. */
	ask(names, "a.TEST", DNS_A, false, &out);
	assert_memory_equal(buf_head(&out) + buf_len(&out) - 4, expect + sizeof(expect) - 4, 4);
	ask(names, "b.test", DNS_A, false, &out);
	assert_int_equal(buf_head(&out)[buf_len(&out) - 1], 2);
	assert_string_equal(names_name(names, NAMES_BASE + 1), "a.test");

	static const unsigned empty[] = {DNS_AAAA, DNS_HTTPS, DNS_SVCB, 15, 16, 33, 255};
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
		assert_int_equal(ask(names, "a.test", empty[i], true, &out), DNS_NOERROR);
		assert_int_equal(answers(&out), 0);
	}
	assert_int_equal(ask(names, "", 2, false, &out), DNS_NOERROR);
	assert_int_equal(answers(&out), 0);

	assert_int_equal(ask(names, "x.localhost", DNS_A, false, &out), DNS_NOERROR);
	assert_memory_equal(buf_head(&out) + buf_len(&out) - 4, "\x7f\0\0\1", 4);
	assert_int_equal(ask(names, "localhost", DNS_AAAA, false, &out), DNS_NOERROR);
	assert_int_equal(answers(&out), 0);
	assert_int_equal(ask(names, "x.invalid", DNS_A, true, &out), DNS_NXDOMAIN);
	assert_int_equal(ask(names, "nas.local", DNS_A, false, &out), DNS_NXDOMAIN);
	assert_int_equal(ask(names, "nas.local", DNS_A, true, &out), DNS_NOERROR);
	assert_int_equal(ask(names, "notlocal", DNS_A, false, &out), DNS_NOERROR);

	assert_int_equal(ask(names, "1.0.18.198.in-addr.arpa", DNS_PTR, false, &out), DNS_NOERROR);
	assert_int_equal(answers(&out), 1);
	assert_memory_equal(buf_head(&out) + buf_len(&out) - sizeof(ptr), ptr, sizeof(ptr));
	assert_int_equal(
		ask(names, "99.0.18.198.in-addr.arpa", DNS_PTR, false, &out), DNS_NXDOMAIN);
	assert_int_equal(ask(names, "8.8.8.8.in-addr.arpa", DNS_PTR, true, &out), DNS_NXDOMAIN);
	assert_int_equal(
		ask(names, "01.0.18.198.in-addr.arpa", DNS_PTR, false, &out), DNS_NXDOMAIN);
	names_free(names);
}

static void test_build(void **state)
{
	struct dns_query q = {.id = 1, .opcode = 5, .edns = true};
	static const uint8_t badvers[] = {
		0, 1, 0xa8, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 41, 4, 0xd0, 1, 0, 0, 0, 0, 0};
	char long_name[POLICY_NAME_MAX + 1];
	_buf_ struct buf out;

	buf_init(&out, DNS_ANSWER_MAX);
	assert_int_equal(dns_build(&q, DNS_BADVERS, 0x01020304, &out), 0);
	assert_int_equal(buf_len(&out), sizeof(badvers));
	assert_memory_equal(buf_head(&out), badvers, sizeof(badvers));
	/* No room: nothing. */
	for (size_t max = 0; max < sizeof(badvers); max++) {
		_buf_ struct buf small;

		buf_init(&small, max);
		assert_int_equal(dns_build(&q, DNS_BADVERS, 0, &small), -1);
		assert_int_equal(buf_len(&small), 0);
		assert_false(small.failed);
	}
	/* A PTR target of any legal length. */
	memset(long_name, 'a', sizeof(long_name));
	long_name[63] = long_name[127] = long_name[191] = '.';
	long_name[253] = '\0';
	buf_reset(&out);
	assert_int_equal(dns_build_ptr(&q, long_name, &out), 0);
	assert_int_equal(answers(&out), 1);
}

static void test_tcp(void **state)
{
	static const uint8_t two[] = {0, 3, 'a', 'b', 'c', 0, 1, 'd'};
	const uint8_t *msg;
	size_t len, used;
	_buf_ struct buf answer, out;

	for (size_t i = 0; i < 5; i++)
		assert_int_equal(dns_tcp_next(two, i, &msg, &len, &used), 0);
	assert_int_equal(dns_tcp_next(two, sizeof(two), &msg, &len, &used), 1);
	assert_int_equal(len, 3);
	assert_ptr_equal(msg, two + 2);
	assert_int_equal(used, 5);
	assert_int_equal(dns_tcp_next("\0\0", 2, &msg, &len, &used), -1);
	assert_int_equal(dns_tcp_next("\xff\xff", 2, &msg, &len, &used), -1);
	buf_init(&answer, 100);
	buf_init(&out, 4);
	buf_puts(&answer, "xy");
	assert_int_equal(dns_tcp_put(&out, &answer), 0);
	assert_memory_equal(buf_head(&out), "\0\2xy", 4);
	assert_int_equal(dns_tcp_put(&out, &answer), -1);
	assert_int_equal(buf_len(&out), 4);
}

static void test_names_full(void **state)
{
	struct names *n = names_new(key);
	char name[32];
	uint32_t i, first;

	assert_null(names_name(n, NAMES_BASE));
	assert_null(names_name(n, NAMES_BASE + 1));
	assert_null(names_name(n, 0));
	assert_null(names_name(n, 0xffffffff));
	/* Names without a rule get half of the table, the others all that is left. */
	for (i = 0; i < NAMES_MAX; i++) {
		bool reachable = i >= NAMES_MAX / 2;

		snprintf(name, sizeof(name), "n%u.test", i);
		assert_int_equal(names_addr(n, name, reachable), NAMES_BASE + 1 + i);
		if (i == NAMES_MAX / 2)
			assert_int_equal(names_addr(n, "denied.test", false), 0);
	}
	assert_int_equal(names_addr(n, "more.test", true), 0);
	/* What was given stays given. */
	for (i = 0; i < NAMES_MAX; i += 97) {
		snprintf(name, sizeof(name), "n%u.test", i);
		first = names_addr(n, name, false);
		assert_int_equal(first, NAMES_BASE + 1 + i);
		assert_true(names_is_synthetic(first));
		assert_string_equal(names_name(n, first), name);
	}
	assert_null(names_name(n, NAMES_BASE + NAMES_MAX + 1));
	assert_true(names_is_synthetic(NAMES_BASE + NAMES_MAX));
	assert_false(names_is_synthetic(NAMES_BASE - 1));
	assert_false(names_is_synthetic(NAMES_BASE + 0x20000));
	names_free(n);
	names_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_hostile),
		cmocka_unit_test(test_name_lengths),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_names_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log's chain: what was sealed verifies, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "wire/chain.h"

#define LINES 6

/* A log of two files: 1-4 in the older one, 5 and 6 in the newer one. */
struct log {
	char line[LINES][400];
	struct chain chain;
};

static void make(struct log *g)
{
	chain_init(&g->chain);
	for (int i = 0; i < LINES; i++) {
		struct buf b;

		buf_init(&b, 400);
		buf_printf(&b, "{\"path\":\"/%d\\\"\"", i);
		chain_seal(&g->chain, i == 0 || i == 4, &b);
		assert_false(b.failed);
		assert_int_equal(buf_head(&b)[buf_len(&b) - 1], '\n');
		assert_true(buf_len(&b) <= sizeof(g->line[i]));
		memcpy(g->line[i], buf_head(&b), buf_len(&b) - 1);
		g->line[i][buf_len(&b) - 1] = '\0';
		buf_done(&b);
	}
	assert_int_equal(g->chain.seq, LINES);
}

static int verify(struct log *g, int from, int to, const struct chain *head, struct err *err)
{
	struct chain_check c = {.older = from != 4};

	chain_init(&c.at);
	for (int i = from; i < to; i++) {
		if (!g->line[i][0])
			continue;
		if (chain_check_line(&c, g->line[i], strlen(g->line[i]), i == from || i == 4, err) <
			0)
			return -1;
	}
	return chain_check_end(&c, head, err);
}

static void test_sha256(void **state)
{
	static const struct {
		const char *text, *hex;
		unsigned times;
	} t[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
		{"a", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 1000000},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct sha256 s;
		char hex[SHA256_HEX];

		sha256_init(&s);
		for (unsigned k = 0; k < t[i].times; k++)
			sha256_add(&s, t[i].text, strlen(t[i].text));
		sha256_hex(&s, hex);
		assert_string_equal(hex, t[i].hex);
	}
}

static void test_whole(void **state)
{
	struct log g;
	struct err err = {0};

	make(&g);
	assert_int_equal(verify(&g, 0, LINES, &g.chain, &err), 0);
	/* A newer file alone: then it has to be the first of all. */
	assert_int_equal(verify(&g, 4, LINES, &g.chain, &err), -1);
	assert_non_null(strstr(err.msg, "number 5 follows number 0"));
	assert_int_equal(verify(&g, 0, 0, NULL, &err), 0);
}

static void test_every_change_shows(void **state)
{
	struct log g, bad;
	struct err err;

	make(&g);
	for (int i = 0; i < LINES; i++) {
		for (size_t at = 0; g.line[i][at]; at++) {
			bad = g;
			bad.line[i][at] ^= 1;
			if (verify(&bad, 0, LINES, &g.chain, &err) == 0)
				fail_msg("line %d byte %zu", i, at);
		}
	}
	for (int i = 0; i < LINES; i++) {
		bad = g;
		bad.line[i][0] = '\0'; /* left out */
		assert_int_equal(verify(&bad, 0, LINES, &g.chain, &err), -1);
		bad = g;
		bad.line[i][strlen(bad.line[i]) / 2] = '\0'; /* cut */
		assert_int_equal(verify(&bad, 0, LINES, &g.chain, &err), -1);
		bad = g;
		memcpy(bad.line[i], g.line[(i + 1) % LINES], sizeof(g.line[0])); /* twice */
		assert_int_equal(verify(&bad, 0, LINES, &g.chain, &err), -1);
	}
}

static void test_ends(void **state)
{
	struct log g;
	struct chain head;
	struct chain_line l;
	struct err err = {0};

	make(&g);
	assert_int_equal(verify(&g, 0, 5, &g.chain, &err), -1);
	assert_string_equal(err.msg, "the last 1 lines are missing");
	assert_int_equal(verify(&g, 0, 0, &g.chain, &err), -1);
	assert_int_equal(verify(&g, 0, LINES, NULL, &err), -1);
	/* A crash between lines and head. */
	assert_int_equal(chain_parse(g.line[4], strlen(g.line[4]), &l), 0);
	head.seq = 5;
	memcpy(head.hash, l.hash, sizeof(l.hash));
	assert_int_equal(verify(&g, 0, LINES, &head, &err), 0);
	head.hash[3] ^= 1;
	assert_int_equal(verify(&g, 0, LINES, &head, &err), -1);
	assert_int_equal(chain_parse(g.line[3], strlen(g.line[3]), &l), 0);
	head.seq = 4;
	memcpy(head.hash, l.hash, sizeof(l.hash));
	assert_int_equal(verify(&g, 0, LINES, &head, &err), 0);
	head.seq = 5;
	assert_int_equal(verify(&g, 0, LINES, &head, &err), -1);
}

/* One batch of lines may be there that the head does not know, and no more. */
static void test_head_is_a_batch_behind(void **state)
{
	enum { MANY = CHAIN_BATCH_MAX + 10 };
	struct chain at[MANY + 1];
	struct chain_check c = {.older = false};
	struct err err;

	chain_init(&at[0]);
	for (unsigned i = 1; i <= MANY; i++) {
		struct buf b;

		at[i] = at[i - 1];
		buf_init(&b, 1000);
		buf_printf(&b, "{\"n\":%u", i);
		chain_seal(&at[i], i == 1, &b);
		assert_int_equal(chain_check_line(&c, (char *)buf_head(&b), buf_len(&b) - 1, i == 1,
					 &err),
			0);
		buf_done(&b);
		for (unsigned h = 0; h <= i; h++)
			assert_int_equal(chain_check_end(&c, &at[h], &err),
				h + CHAIN_BATCH_MAX < i ? -1 : 0);
		at[i].hash[5] ^= 1;
		assert_int_equal(chain_check_end(&c, &at[i], &err), -1);
		at[i].hash[5] ^= 1;
	}
}

static void test_head(void **state)
{
	char text[CHAIN_HEAD_SIZE + 1];
	struct chain c, back;

	chain_init(&c);
	for (c.seq = 1; c.seq < UINT64_MAX / 20; c.seq *= 19) {
		chain_head_text(&c, text);
		assert_int_equal(strlen(text), CHAIN_HEAD_SIZE);
		assert_int_equal(chain_head_parse(text, CHAIN_HEAD_SIZE, &back), 0);
		assert_int_equal(back.seq, c.seq);
		assert_string_equal(back.hash, c.hash);
	}
	for (size_t i = 0; i <= CHAIN_HEAD_SIZE; i++)
		if (i != CHAIN_HEAD_SIZE)
			assert_int_equal(chain_head_parse(text, i, &back), -1);
	text[0] = '[';
	assert_int_equal(chain_head_parse(text, CHAIN_HEAD_SIZE, &back), -1);
}

static void test_parse(void **state)
{
#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	static const struct {
		const char *line;
		bool ok;
	} t[] = {
		{"{\"a\":1,\"seq\":1,\"hash\":\"" HASH "\"}", true},
		{"{\"a\":1,\"seq\":1,\"prev\":\"" HASH "\",\"hash\":\"" HASH "\"}", true},
		{"", false},
		{"{}", false},
		{"{\"a\":1}", false},
		{"{\"seq\":1,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"seq\":1,\"hash\":\"" HASH "\"} ", false},
		{"{\"a\":1,\"seq\":01,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"seq\":0,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"seq\":-1,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"seq\":,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"seq\":99999999999999999999,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"hash\":\"" HASH "\"}", false},
		{"{\"a\":1,\"seq\":1,\"hash\":\"" HASH "0\"}", false},
		{"{\"a\":1,\"seq\":1,\"hash\":\"X" HASH "\"}", false},
		{",\"seq\":1,\"hash\":\"" HASH "\"}", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct chain_line l;

		if ((chain_parse(t[i].line, strlen(t[i].line), &l) == 0) != t[i].ok)
			fail_msg("%s", t[i].line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_every_change_shows),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_head_is_a_batch_behind),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The agent protocol's codec: round trips, exact consumption, hostile payloads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "wire/agent.h"

#define BIG (1u << 20)

/* The one frame in @b, of type @want. */
static struct rd only_frame(const struct buf *b, uint8_t want)
{
	struct rd payload;
	uint8_t type;

	assert_int_equal(agent_next(b, &type, &payload), 1);
	assert_int_equal(type, want);
	assert_int_equal(AGENT_HEADER + rd_left(&payload), buf_len(b));
	return payload;
}

static void test_framing(void **state)
{
	struct rd payload;
	uint8_t type;
	_buf_ struct buf b, part;

	(void)state;
	buf_init(&b, BIG);
	agent_put(&b, AGENT_STDOUT, "hello", 5);
	agent_put(&b, AGENT_STDIN_EOF, NULL, 0);
	assert_int_equal(buf_len(&b), AGENT_HEADER + 5 + AGENT_HEADER);
	assert_memory_equal(buf_head(&b), "\5\0\0\0", 4);

	/* Every cut of the first frame asks for more. */
	for (size_t n = 0; n < AGENT_HEADER + 5; n++) {
		buf_init(&part, BIG);
		buf_put(&part, buf_head(&b), n);
		assert_int_equal(agent_next(&part, &type, &payload), 0);
		buf_done(&part);
	}
	buf_init(&part, 0);

	assert_int_equal(agent_next(&b, &type, &payload), 1);
	assert_int_equal(type, AGENT_STDOUT);
	assert_int_equal(rd_left(&payload), 5);
	assert_memory_equal(rd_bytes(&payload, 5), "hello", 5);
	agent_consume(&b);
	assert_int_equal(agent_next(&b, &type, &payload), 1);
	assert_int_equal(type, AGENT_STDIN_EOF);
	assert_true(rd_done(&payload));
	agent_consume(&b);
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(agent_next(&b, &type, &payload), 0);
}

static void test_ceiling(void **state)
{
	static const uint8_t over[] = {1, 0, 1, 0, AGENT_STDOUT}, huge[] = {255, 255, 255, 255, 1};
	static uint8_t data[AGENT_PAYLOAD_MAX + 1];
	struct rd payload;
	uint8_t type;
	_buf_ struct buf b;

	(void)state;
	buf_init(&b, BIG);
	assert_int_equal(agent_put(&b, AGENT_STDOUT, data, AGENT_PAYLOAD_MAX), 0);
	assert_int_equal(agent_next(&b, &type, &payload), 1);
	assert_int_equal(rd_left(&payload), AGENT_PAYLOAD_MAX);
	buf_reset(&b);
	assert_int_equal(agent_put(&b, AGENT_STDOUT, data, AGENT_PAYLOAD_MAX + 1), -1);
	assert_true(b.failed);

	/* Refused from the header alone, before anything is buffered. */
	buf_reset(&b);
	buf_put(&b, over, sizeof(over));
	assert_int_equal(agent_next(&b, &type, &payload), -1);
	buf_reset(&b);
	buf_put(&b, huge, sizeof(huge));
	assert_int_equal(agent_next(&b, &type, &payload), -1);
}

static void test_setup(void **state)
{
	struct agent_export e[] = {
		{(char *)"e0", (char *)"/home/u/p", false}, {(char *)"e1", (char *)"/data", true}};
	struct agent_setup s = {.hostname = (char *)"box",
				   .clock_ns = 0x1122334455667788u,
				   .exports = e,
				   .n_exports = 2},
			   got;
	_buf_ struct buf b;

	(void)state;
	strv_add(&s.env, "A=1");
	strv_add(&s.env, "B=");
	buf_init(&b, BIG);
	agent_put_setup(&b, &s);
	assert_int_equal(agent_get_setup(only_frame(&b, AGENT_SETUP), &got), 0);
	assert_string_equal(got.hostname, "box");
	assert_true(got.clock_ns == s.clock_ns);
	assert_int_equal(got.n_exports, 2);
	assert_string_equal(got.exports[1].name, "e1");
	assert_string_equal(got.exports[1].path, "/data");
	assert_true(got.exports[1].read_only);
	assert_false(got.exports[0].read_only);
	assert_int_equal(got.env.n, 2);
	assert_string_equal(got.env.v[1], "B=");
	agent_setup_done(&got);
	agent_setup_done(&got); /* twice is fine */
	strv_done(&s.env);
}

static void test_exec(void **state)
{
	struct agent_exec x = {.flags = AGENT_EXEC_TTY,
				  .rows = 24,
				  .cols = 80,
				  .user = (char *)"root",
				  .cwd = (char *)""},
			  got;
	_buf_ struct buf b;

	(void)state;
	strv_add(&x.argv, "ls");
	strv_add(&x.argv, "");
	strv_add(&x.env, "TERM=xterm");
	buf_init(&b, BIG);
	agent_put_exec(&b, &x);
	assert_int_equal(agent_get_exec(only_frame(&b, AGENT_EXEC), &got), 0);
	assert_int_equal(got.flags, AGENT_EXEC_TTY);
	assert_int_equal(got.rows, 24);
	assert_int_equal(got.cols, 80);
	assert_string_equal(got.user, "root");
	assert_string_equal(got.cwd, "");
	assert_int_equal(got.argv.n, 2);
	assert_string_equal(got.argv.v[1], "");
	assert_null(got.argv.v[2]); /* ready for execve */
	agent_exec_done(&got);
	strv_done(&x.argv);
	strv_done(&x.env);
}

static void test_entry(void **state)
{
	struct agent_entry e = {.kind = AGENT_ENTRY_FILE,
				   .flags = AGENT_ENTRY_ONLY_IF_MISSING,
				   .mode = 04755,
				   .uid = 1000,
				   .gid = 7,
				   .size = 1ull << 40,
				   .path = (char *)"/a/b",
				   .target = (char *)""},
			   got;
	_buf_ struct buf b;

	(void)state;
	buf_init(&b, BIG);
	agent_put_entry(&b, &e);
	assert_int_equal(agent_get_entry(only_frame(&b, AGENT_ENTRY), &got), 0);
	assert_int_equal(got.kind, AGENT_ENTRY_FILE);
	assert_int_equal(got.flags, AGENT_ENTRY_ONLY_IF_MISSING);
	assert_int_equal(got.mode, 04755);
	assert_int_equal(got.uid, 1000);
	assert_int_equal(got.gid, 7);
	assert_true(got.size == 1ull << 40);
	assert_string_equal(got.path, "/a/b");
	agent_entry_done(&got);

	buf_reset(&b);
	e.path = (char *)"relative";
	agent_put_entry(&b, &e);
	assert_int_equal(agent_get_entry(only_frame(&b, AGENT_ENTRY), &got), -1);
	agent_entry_done(&got);
	buf_reset(&b);
	e.path = (char *)"";
	agent_put_entry(&b, &e);
	assert_int_equal(agent_get_entry(only_frame(&b, AGENT_ENTRY), &got), -1);
	agent_entry_done(&got);
}

static void test_answers(void **state)
{
	uint32_t num, code, sig, starved;
	char *text;
	_buf_ struct buf b;

	(void)state;
	buf_init(&b, BIG);
	agent_put_error(&b, 28, "disk full");
	assert_int_equal(agent_get_error(only_frame(&b, AGENT_ERROR), &num, &text), 0);
	assert_int_equal(num, 28);
	assert_string_equal(text, "disk full");
	free(text);
	buf_reset(&b);
	agent_put_exit(&b, 137, 9, 2);
	assert_int_equal(agent_get_exit(only_frame(&b, AGENT_EXIT), &code, &sig, &starved), 0);
	assert_int_equal(code, 137);
	assert_int_equal(sig, 9);
	assert_int_equal(starved, 2);
}

/* One valid frame of every structured kind. */
static void put_valid(struct buf *b, int kind)
{
	struct agent_export ex = {(char *)"n", (char *)"/p", true};
	struct agent_setup s = {.hostname = (char *)"h", .exports = &ex, .n_exports = 1};
	struct agent_exec x = {.user = (char *)"u", .cwd = (char *)"/"};
	struct agent_entry e = {
		.kind = AGENT_ENTRY_SYMLINK, .path = (char *)"/l", .target = (char *)"t"};

	strv_add(&s.env, "A=b");
	strv_add(&x.argv, "true");
	if (kind == 0)
		agent_put_setup(b, &s);
	else if (kind == 1)
		agent_put_export(b, &ex);
	else if (kind == 2)
		agent_put_exec(b, &x);
	else if (kind == 3)
		agent_put_entry(b, &e);
	else if (kind == 4)
		agent_put_error(b, 1, "text");
	else
		agent_put_exit(b, 1, 2, 3);
	strv_done(&s.env);
	strv_done(&x.argv);
}

static int get_any(int kind, struct rd r)
{
	struct agent_setup s;
	struct agent_export ex;
	struct agent_exec x;
	struct agent_entry e;
	uint32_t a, b, c;
	char *text = NULL;
	int result;

	switch (kind) {
	case 0:
		result = agent_get_setup(r, &s);
		agent_setup_done(&s);
		return result;
	case 1:
		result = agent_get_export(r, &ex);
		agent_export_done(&ex);
		return result;
	case 2:
		result = agent_get_exec(r, &x);
		agent_exec_done(&x);
		return result;
	case 3:
		result = agent_get_entry(r, &e);
		agent_entry_done(&e);
		return result;
	case 4:
		result = agent_get_error(r, &a, &text);
		free(text);
		return result;
	default:
		return agent_get_exit(r, &a, &b, &c);
	}
}

/* A valid payload is accepted; each of its prefixes and an extra byte are refused. */
static void test_exact_consumption(void **state)
{
	(void)state;
	for (int kind = 0; kind < 6; kind++) {
		size_t len;
		uint8_t *copy;
		_buf_ struct buf b;

		buf_init(&b, BIG);
		put_valid(&b, kind);
		len = buf_len(&b) - AGENT_HEADER;
		assert_int_equal(get_any(kind, rd_make(buf_head(&b) + AGENT_HEADER, len)), 0);
		for (size_t n = 0; n < len; n++) {
			copy = malloc(n + 1); /* exact, so that the sanitizer sees over-reads */
			memcpy(copy, buf_head(&b) + AGENT_HEADER, n);
			assert_int_equal(get_any(kind, rd_make(copy, n)), -1);
			free(copy);
		}
		copy = calloc(1, len + 1);
		memcpy(copy, buf_head(&b) + AGENT_HEADER, len);
		assert_int_equal(get_any(kind, rd_make(copy, len + 1)), -1);
		free(copy);
	}
}

static void test_hostile_strings(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool good;
	} table[] = {
		{"\0\0\0\0", 4, true},
		{"\3\0\0\0abc", 7, true},
		{"\3\0\0\0a\0c", 7, false}, /* NUL inside */
		{"\4\0\0\0abc", 7, false},
		{"\377\377\377\377abc", 7, false},
		{"\1\0\0", 3, false},
		{"", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct rd r = rd_make(table[i].bytes, table[i].len);
		_free_ char *s = agent_get_string(&r);

		assert_int_equal(s != NULL, table[i].good);
		assert_int_equal(rd_done(&r), table[i].good);
	}
}

static void test_hostile_lists(void **state)
{
	struct strv l = {0};
	struct rd r;
	_buf_ struct buf b;

	(void)state;
	/* A count that the bytes cannot hold costs nothing. */
	buf_init(&b, BIG);
	buf_put_le32(&b, AGENT_LIST_MAX);
	r = rd_make(buf_head(&b), buf_len(&b));
	assert_int_equal(agent_get_strv(&r, &l), -1);
	assert_int_equal(l.n, 0);
	strv_done(&l);

	/* The ceiling itself fits, one more does not. */
	for (uint32_t n = AGENT_LIST_MAX; n <= AGENT_LIST_MAX + 1; n++) {
		buf_reset(&b);
		buf_put_le32(&b, n);
		for (uint32_t i = 0; i < n; i++)
			agent_put_string(&b, "");
		r = rd_make(buf_head(&b), buf_len(&b));
		assert_int_equal(agent_get_strv(&r, &l), n == AGENT_LIST_MAX ? 0 : -1);
		assert_int_equal(l.n, n == AGENT_LIST_MAX ? n : 0);
		strv_done(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_ceiling),
		cmocka_unit_test(test_setup),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_entry),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_exact_consumption),
		cmocka_unit_test(test_hostile_strings),
		cmocka_unit_test(test_hostile_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

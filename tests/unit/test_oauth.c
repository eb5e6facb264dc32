/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth: what a token endpoint issues becomes sentinels, and sentinels become tokens again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "gate/oauth.h"

#define ACCESS  "sk-oat01-proxy-managed"
#define REFRESH "sk-ort01-proxy-managed"

static int rewrite(const char *body, const struct oauth_names *names, struct oauth_tokens *t,
	struct buf *out, struct err *err)
{
	static const struct oauth_names usual;

	buf_init(out, OAUTH_BODY_MAX);
	return oauth_rewrite(
		body, strlen(body), names ? names : &usual, ACCESS, REFRESH, 1000, t, out, err);
}

static void expect_secret(struct secret *s, const char *value)
{
	assert_non_null(s);
	assert_int_equal(secret_len(s), strlen(value));
	assert_memory_equal(secret_bytes(s), value, strlen(value));
}

static void test_answer(void **state)
{
	struct oauth_tokens t;
	struct err err = {0};
	_buf_ struct buf out;

	assert_int_equal(rewrite("{ \"token_type\": \"Bearer\", \"access_token\":\"real/access\","
				 "\"refresh_token\":\"real-refresh\",\"expires_in\":3600, "
				 "\"scope\":\"a b\",\"n\":1.5}",
				 NULL, &t, &out, &err),
		1);
	assert_string_equal(buf_cstr(&out), "{\"token_type\":\"Bearer\",\"access_token\":\"" ACCESS
					    "\",\"refresh_token\":\"" REFRESH
					    "\",\"expires_in\":3600,\"scope\":\"a b\",\"n\":1.5}");
	expect_secret(t.access, "real/access");
	expect_secret(t.refresh, "real-refresh");
	assert_int_equal(t.expires_at, 4600);
	assert_string_equal(t.scope, "a b");
	oauth_tokens_done(&t);
	oauth_tokens_done(&t);
}

static void test_names(void **state)
{
	const struct oauth_names names = {"data.token", "data.renew.token", "ttl", "what"};
	struct oauth_tokens t;
	struct err err = {0};
	_buf_ struct buf out;

	assert_int_equal(rewrite("{\"data\":{\"token\":\"tok-1\",\"renew\":{\"token\":\"tok-2\"}},"
				 "\"ttl\":\"60\",\"what\":\"x\",\"access_token\":\"other\"}",
				 &names, &t, &out, &err),
		1);
	assert_string_equal(buf_cstr(&out),
		"{\"data\":{\"token\":\"" ACCESS "\",\"renew\":{\"token\":\"" REFRESH
		"\"}},\"ttl\":\"60\",\"what\":\"x\",\"access_token\":\"other\"}");
	assert_int_equal(t.expires_at, 1060);
	oauth_tokens_done(&t);
}

/* No copy of a token is left anywhere, and an ID token proves nothing any more. */
static void test_other_members(void **state)
{
	struct oauth_tokens t;
	struct err err = {0};
	_buf_ struct buf out;

	assert_int_equal(rewrite("{\"access_token\":\"real\\\"access\",\"refresh_token\":"
				 "\"real-refresh\",\"again\":[\"x real\\\"access y\","
				 "{\"real-refresh\":1}],\"id_token\":\"head.claims.proof\"}",
				 NULL, &t, &out, &err),
		1);
	assert_null(strstr(buf_cstr(&out), "real"));
	assert_null(strstr(buf_cstr(&out), "proof"));
	assert_non_null(strstr(buf_cstr(&out), "\"x " ACCESS " y\""));
	assert_non_null(strstr(buf_cstr(&out), "\"head.claims.proxy-managed\""));
	oauth_tokens_done(&t);
}

static void test_without_tokens(void **state)
{
	struct oauth_tokens t;
	struct err err = {0};
	_buf_ struct buf out;

	assert_int_equal(rewrite("{\"error\":\"authorization_pending\"}", NULL, &t, &out, &err), 0);
	assert_int_equal(buf_len(&out), 0);
	assert_int_equal(rewrite("{\"access_token\":null}", NULL, &t, &out, &err), 0);
	/* A refresh that rotates nothing. */
	assert_int_equal(rewrite("{\"access_token\":\"just-access\"}", NULL, &t, &out, &err), 1);
	assert_null(t.refresh);
	assert_int_equal(t.expires_at, 0);
	oauth_tokens_done(&t);
}

static void test_unreadable(void **state)
{
	static const char *const table[] = {"", "access_token=a&refresh_token=b", "[]", "\"x\"",
		"{\"access_token\":\"a\",\"access_token\":\"b\"}", "{\"access_token\":\"a b\"}",
		"{\"access_token\":\"a\\nb\"}",
		"{\"access_token\":\"good\",\"refresh_token\":\" \"}",
		"{\"access_token\":\"x\"} trailing", "{"};
	struct oauth_tokens t;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct err err = {0};
		_buf_ struct buf out;

		assert_int_equal(rewrite(table[i], NULL, &t, &out, &err), -1);
		assert_null(t.access);
		assert_non_null(strstr(err.msg, "token endpoint"));
	}
}

static void test_record(void **state)
{
	struct oauth_tokens t = {.expires_at = 77, .scope = xstrdup("a b")}, back;
	struct err err = {0};
	struct secret *record;

	t.access = secret_new("acc\"ess", 7, &err);
	t.refresh = secret_new("refresh", 7, &err);
	record = oauth_record_write(&t, &err);
	assert_non_null(record);
	assert_int_equal(oauth_record_read(record, &back, &err), 0);
	assert_true(secret_equal(t.access, back.access) && secret_equal(t.refresh, back.refresh));
	assert_int_equal(back.expires_at, 77);
	assert_string_equal(back.scope, "a b");
	secret_free(record);
	oauth_tokens_done(&t);
	oauth_tokens_done(&back);
	record = secret_new("{\"refresh_token\":\"x\"}", 21, &err);
	assert_int_equal(oauth_record_read(record, &back, &err), -1);
	secret_free(record);
}

static void expect_request(enum oauth_syntax syntax, const char *body, const char *expected)
{
	struct secret *one = secret_new("to+k/en=1", 9, NULL), *two = secret_new("t\"2", 3, NULL);
	struct filter *f = filter_new();
	_buf_ struct buf out;

	buf_init(&out, 4096);
	oauth_replace(f, "sen/tinel", one, syntax);
	oauth_replace(f, "sen/tinel-2", two, syntax);
	filter_feed(f, body, strlen(body), &out);
	assert_true(filter_flush(f, &out));
	assert_string_equal(buf_cstr(&out), expected);
	filter_free(f);
	secret_free(one);
	secret_free(two);
}

static void test_requests(void **state)
{
	expect_request(OAUTH_FORM, "a=b&refresh_token=sen%2Ftinel&c=d",
		"a=b&refresh_token=to%2Bk%2Fen%3D1&c=d");
	expect_request(OAUTH_FORM, "refresh_token=sen/tinel-2", "refresh_token=t%222");
	expect_request(OAUTH_JSON, "{\"refresh_token\":\"sen/tinel\"}",
		"{\"refresh_token\":\"to+k/en=1\"}");
	expect_request(OAUTH_JSON, "[\"sen/tinel-2\"]", "[\"t\\\"2\"]");
	expect_request(OAUTH_PLAIN, "Bearer sen/tinel", "Bearer to+k/en=1");
}

static void test_accounts(void **state)
{
	char buf[OAUTH_SENTINEL_MAX];

	assert_string_equal(oauth_sentinel("s", 1, buf, sizeof(buf)), "s");
	assert_string_equal(oauth_sentinel("s", 3, buf, sizeof(buf)), "s-3");
}

/* Only a request that renews the tokens of an account, and nothing else, may replace them. */
static void test_renewals(void **state)
{
	static const struct {
		const char *body;
		enum oauth_syntax syntax;
		unsigned account;
	} table[] = {
		{"grant_type=refresh_token&refresh_token=sent", OAUTH_FORM, 1},
		{"refresh_token=sent-2&client_id=x&grant_type=refresh%5Ftoken", OAUTH_FORM, 2},
		{"refresh_token=%73ent-8&scope=a+b", OAUTH_FORM, 8},
		{"renew=sent", OAUTH_FORM, 1},
		{"refresh_token=sent-9", OAUTH_FORM, 0},
		{"refresh_token=xsent", OAUTH_FORM, 0},
		{"", OAUTH_FORM, 0},
		{"grant_type=authorization_code&code=mine&refresh_token=sent", OAUTH_FORM, 0},
		{"grant_type=refresh_token&refresh_token=mine&x=sent", OAUTH_FORM, 0},
		{"refresh_token=sent&refresh_token=mine", OAUTH_FORM, 0},
		{"refresh_token=sent&Refresh_Token=mine", OAUTH_FORM, 0},
		{"refresh_token=sent&refresh%5ftoken=mine", OAUTH_FORM, 0},
		{"refresh_token=sent&refresh.token=mine", OAUTH_FORM, 0},
		{"refresh_token=sent&refresh_token[]=mine", OAUTH_FORM, 0},
		{"refresh_token=sent&renew=mine", OAUTH_FORM, 0},
		{"grant_type=refresh_token&grant_type=password&refresh_token=sent", OAUTH_FORM, 0},
		{"refresh_token=sent", OAUTH_PLAIN, 0},
		{"refresh_token=sent", OAUTH_JSON, 0},
		{"{\"grant_type\":\"refresh_token\",\"refresh_token\":\"sent-3\"}", OAUTH_JSON, 3},
		{"{\"renew\":\"\\u0073ent\"}", OAUTH_JSON, 1},
		{"{\"refresh_token\":\"sent\",\"refresh_token\":\"sent\"}", OAUTH_JSON, 0},
		{"{\"refresh_token\":\"sent\",\"REFRESH_TOKEN\":\"mine\"}", OAUTH_JSON, 0},
		{"{\"refresh_token\":\"sent\",\"grant_type\":1}", OAUTH_JSON, 0},
		{"{\"refresh_token\":[\"sent\"]}", OAUTH_JSON, 0},
		{"[\"sent\"]", OAUTH_JSON, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (oauth_renews(table[i].body, strlen(table[i].body), table[i].syntax, "sent",
			    "x.renew") != table[i].account)
			fail_msg("%s", table[i].body);
}

static void test_syntax(void **state)
{
	static const struct {
		const char *type;
		enum oauth_syntax syntax;
	} table[] = {{"application/json", OAUTH_JSON},
		{"application/JSON; charset=utf-8", OAUTH_JSON},
		{"application/vnd.x+json", OAUTH_JSON},
		{"application/x-www-form-urlencoded;charset=UTF-8", OAUTH_FORM},
		{"text/plain", OAUTH_PLAIN}, {"", OAUTH_PLAIN}, {"js", OAUTH_PLAIN}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(
			oauth_syntax_of(table[i].type, strlen(table[i].type)), table[i].syntax);
}

static void test_invalid_grant(void **state)
{
	static const char plain[] = "{\"error\":\"invalid_grant\"}",
			  deep[] = "{\"error\":{\"type\":\"invalid_grant\"}}",
			  other[] = "{\"error\":\"invalid_client\"}";

	assert_true(oauth_is_invalid_grant(plain, strlen(plain)));
	assert_true(oauth_is_invalid_grant(deep, strlen(deep)));
	assert_false(oauth_is_invalid_grant(other, strlen(other)));
	assert_false(oauth_is_invalid_grant("", 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_other_members),
		cmocka_unit_test(test_without_tokens),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_accounts),
		cmocka_unit_test(test_renewals),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_invalid_grant),
	};

	oauth_wipe_json();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

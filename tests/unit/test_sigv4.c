/* SPDX-License-Identifier: Apache-2.0 */
/* AWS signatures against those that AWS publishes: the test suite of Signature Version 4, the
 * worked examples of the General Reference and those of the S3 API Reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "gate/sigv4.h"

static const struct sigv4_key suite_key = {
	"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", NULL};
static const struct sigv4_key s3_key = {
	"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL};

static struct http1_slice as_slice(const char *s)
{
	return (struct http1_slice){s, strlen(s)};
}

struct request {
	struct sigv4_request r;
	struct http1_header headers[32];
};

/* @fields: "Name: value" lines. */
static void make(struct request *q, const char *method, const char *path, const char *query,
	const char *host, const char *fields)
{
	*q = (struct request){.r = {as_slice(method), as_slice(path), as_slice(query),
				      as_slice(host), q->headers, 0}};
	while (*fields) {
		const char *colon = strchr(fields, ':'), *end = strchr(colon, '\n');

		q->headers[q->r.n_headers].name =
			(struct http1_slice){fields, (size_t)(colon - fields)};
		q->headers[q->r.n_headers++].value =
			(struct http1_slice){colon + 1, (size_t)(end - colon - 1)};
		/* As the parser of heads hands it over: trimmed. */
		while (*q->headers[q->r.n_headers - 1].value.p == ' ') {
			q->headers[q->r.n_headers - 1].value.p++;
			q->headers[q->r.n_headers - 1].value.n--;
		}
		fields = end + 1;
	}
}

static char *sign(const struct request *q, const struct sigv4_key *key, const char *body)
{
	char hash[SIGV4_HASH_HEX];
	struct sigv4 s;
	struct err err = {0};
	_buf_ struct buf out;

	buf_init(&out, 65536);
	sigv4_hash(body, strlen(body), hash);
	if (sigv4_read(&q->r, &s, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_not_equal(s.form, SIGV4_NONE);
	assert_int_equal(sigv4_sign(&s, &q->r, key, s.wants_hash ? hash : NULL, &out, &err), 0);
	return xstrdup(buf_cstr(&out));
}

static void expect(const char *got, const char *part)
{
	if (!strstr(got, part))
		fail_msg("'%s' is not in: %s", part, got);
}

#define SUITE_AUTH(names)                                                                          \
	"Authorization:AWS4-HMAC-SHA256 "                                                          \
	"Credential=proxy-managed/20150830/us-east-1/service/aws4_request, "                       \
	"SignedHeaders=" names ", Signature=00\n"                                                  \
	"X-Amz-Date: 20150830T123600Z\n"

static void test_suite(void **state)
{
	static const struct {
		const char *method, *path, *query, *fields, *body, *signature;
	} table[] = {
		/* get-vanilla */
		{"GET", "/", "", SUITE_AUTH("host;x-amz-date"), "",
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		/* get-vanilla-query-order-key-case */
		{"GET", "/", "Param2=value2&Param1=value1", SUITE_AUTH("host;x-amz-date"), "",
			"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		/* normalize-path: the same as get-vanilla */
		{"GET", "//", "", SUITE_AUTH("host;x-amz-date"), "",
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"GET", "/foo/bar/../..", "", SUITE_AUTH("host;x-amz-date"), "",
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		/* post-vanilla */
		{"POST", "/", "", SUITE_AUTH("x-amz-date;host"), "",
			"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		/* post-x-www-form-urlencoded */
		{"POST", "/", "",
			SUITE_AUTH("content-type;host;x-amz-date") "Content-Type: "
								   "application/"
								   "x-www-form-urlencoded\n",
			"Param1=value1",
			"ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct request q;
		_free_ char *got = NULL;

		make(&q, table[i].method, table[i].path, table[i].query, "example.amazonaws.com",
			table[i].fields);
		got = sign(&q, &suite_key, table[i].body);
		expect(got, "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ");
		expect(got, table[i].signature);
	}
}

/* General Reference, ListUsers. */
static void test_general_reference(void **state)
{
	struct request q;
	_free_ char *got = NULL;

	make(&q, "GET", "/", "Action=ListUsers&Version=2010-05-08", "iam.amazonaws.com",
		"content-type: application/x-www-form-urlencoded; charset=utf-8\n"
		"x-amz-date:20150830T123600Z\n"
		"authorization:AWS4-HMAC-SHA256 Credential=x/20150830/us-east-1/iam/aws4_request,"
		"SignedHeaders=content-type;host;x-amz-date,Signature=0\n");
	got = sign(&q, &suite_key, "");
	expect(got, "SignedHeaders=content-type;host;x-amz-date, Signature="
		    "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define S3_AUTH(names)                                                                             \
	"Authorization:AWS4-HMAC-SHA256 "                                                          \
	"Credential=proxy-managed/20130524/us-east-1/s3/aws4_request,"                             \
	"SignedHeaders=" names ",Signature=00\n"                                                   \
	"X-Amz-Date: 20130524T000000Z\n"

static void test_s3(void **state)
{
	static const struct {
		const char *method, *path, *query, *fields, *signature;
	} table[] =
		{
			{"GET", "/test.txt", "",
				S3_AUTH("host;range;x-amz-content-sha256;x-amz-date") "Range: "
										      "bytes=0-9\n"
										      "x-amz-"
										      "content-"
										      "sha256:"
										      " " EMPTY_HASH
										      "\n",
				"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
			{"PUT", "/test$file.text", "",
				S3_AUTH("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-"
					"class") "Date: Fri, 24 May 2013 00:00:00 GMT\n"
						 "x-amz-storage-class: REDUCED_REDUNDANCY\n"
						 "x-amz-content-sha256: "
						 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42"
						 "034a8b803f8b072\n",
				"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
			{"GET", "/", "lifecycle",
				S3_AUTH("host;x-amz-content-sha256;x-amz-date") "x-amz-content-"
										"sha256:"
										" " EMPTY_HASH "\n",
				"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
			{"GET", "/", "max-keys=2&prefix=J",
				S3_AUTH("host;x-amz-content-sha256;x-amz-date") "x-amz-content-"
										"sha256:"
										" " EMPTY_HASH "\n",
				"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
		};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct request q;
		_free_ char *got = NULL;

		make(&q, table[i].method, table[i].path, table[i].query,
			"examplebucket.s3.amazonaws.com", table[i].fields);
		got = sign(&q, &s3_key, "");
		expect(got, table[i].signature);
	}
}

#define PRESIGNED                                                                                  \
	"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="                                       \
	"proxy-managed%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"     \
	"&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=0000"

static void test_presigned(void **state)
{
	struct request q;
	_free_ char *got = NULL;

	make(&q, "GET", "/test.txt", PRESIGNED, "examplebucket.s3.amazonaws.com", "");
	got = sign(&q, &s3_key, "");
	assert_string_equal(got,
		"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
		"AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
		"&X-Amz-Signature="
		"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

/* With a session's token the field or parameter is signed, without one the guest's is gone. */
static void test_token(void **state)
{
	const struct sigv4_key key = {"AKID", "secret", "to/ken=="};
	_free_ char *with = NULL, *without = NULL, *query = NULL;
	struct request q;

	make(&q, "GET", "/", "", "example.amazonaws.com",
		"X-Amz-Date:20150830T123600Z\nX-Amz-Security-Token:proxy-managed\n"
		"Authorization:AWS4-HMAC-SHA256 Credential=x/20150830/r/service/aws4_request, "
		"SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=0\n");
	with = sign(&q, &key, "");
	expect(with, "SignedHeaders=host;x-amz-date;x-amz-security-token, ");
	without = sign(&q, &suite_key, "");
	expect(without, "SignedHeaders=host;x-amz-date, ");
	make(&q, "GET", "/", PRESIGNED "&X-Amz-Security-Token=proxy-managed", "h", "");
	query = sign(&q, &key, "");
	expect(query, "&X-Amz-Security-Token=to%2Fken%3D%3D&");
	assert_null(strstr(query, "proxy-managed"));
}

/* Fields that are rewritten on the way are not signed. */
static void test_rewritten_fields(void **state)
{
	struct request q;
	_free_ char *got = NULL;

	make(&q, "GET", "/", "", "example.amazonaws.com",
		"X-Amz-Date:20150830T123600Z\nAccept-Encoding:gzip\nX-B:  1   2 \nX-B:3\n"
		"Authorization:AWS4-HMAC-SHA256 Credential=x/20150830/r/service/aws4_request, "
		"SignedHeaders=accept-encoding;x-amz-date;x-b;x-gone, Signature=0\n");
	got = sign(&q, &suite_key, "");
	expect(got, "SignedHeaders=host;x-amz-date;x-b, ");
}

static void test_refused(void **state)
{
	static const char *const table[][2] = {
		{"X-Amz-Date:20150830T123600Z\nAuthorization:AWS4-HMAC-SHA256 "
		 "Credential=x/20150831/r/s/aws4_request, SignedHeaders=host, Signature=0\n",
			"differs from X-Amz-Date"},
		{"Authorization:AWS4-HMAC-SHA256 Credential=x/20150830/r/s/aws4_request, "
		 "SignedHeaders=host, Signature=0\n",
			"X-Amz-Date is missing"},
		{"X-Amz-Date:2015083xT123600Z\nAuthorization:AWS4-HMAC-SHA256 "
		 "Credential=x/2015083x/r/s/aws4_request, SignedHeaders=host, Signature=0\n",
			"not like"},
		{"X-Amz-Date:20150830T123600Z\nAuthorization:AWS4-HMAC-SHA256 "
		 "Credential=x/20150830/r/s/other, SignedHeaders=host, Signature=0\n",
			"scope cannot be read"},
		{"X-Amz-Date:20150830T123600Z\nAuthorization:AWS4-HMAC-SHA256 "
		 "SignedHeaders=host, Signature=0\n",
			"no Credential"},
		{"X-Amz-Date:20150830T123600Z\nAuthorization:AWS4-ECDSA-P256-SHA256 "
		 "Credential=x/20150830/s/aws4_request, SignedHeaders=host, Signature=0\n",
			"only AWS4-HMAC-SHA256"},
		{"X-Amz-Date:20150830T123600Z\nX-Amz-Content-Sha256:STREAMING-AWS4-HMAC-SHA256-"
		 "PAYLOAD\nAuthorization:AWS4-HMAC-SHA256 "
		 "Credential=x/20150830/r/s3/aws4_request, SignedHeaders=host, Signature=0\n",
			"each chunk of the body"},
		{"X-Amz-Date:20150830T123600Z\nAuthorization:AWS4-HMAC-SHA256 "
		 "Credential=x/20150830/r/s3/aws4_request, SignedHeaders=host, Signature=0\n",
			"X-Amz-Content-Sha256 is missing"},
	};
	struct request q;
	struct sigv4 s;
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		make(&q, "GET", "/", "", "h", table[i][0]);
		assert_int_equal(sigv4_read(&q.r, &s, &err), -1);
		expect(err.msg, table[i][1]);
	}
	make(&q, "GET", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256", "h", "");
	assert_int_equal(sigv4_read(&q.r, &s, &err), -1);
	make(&q, "GET", "/", "a=b", "h", "Authorization:Bearer x\n");
	assert_int_equal(sigv4_read(&q.r, &s, &err), 0);
	assert_int_equal(s.form, SIGV4_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suite),
		cmocka_unit_test(test_general_reference),
		cmocka_unit_test(test_s3),
		cmocka_unit_test(test_presigned),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_rewritten_fields),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Sigstore bundles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "sign/bundle.h"

#define DIGEST "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define HEAD   "{\"mediaType\": \"application/vnd.dev.sigstore.bundle.v0.3+json\", "
#define KEY    "\"verificationMaterial\": {\"publicKey\": {\"hint\": \"" DIGEST "\"}}, "

static void test_round_trip(void **state)
{
	struct bundle b = {.len = 64, .has_hint = 1}, got = {0};
	struct err err;
	_free_ char *text = NULL;

	for (uint8_t i = 0; i < 64; i++)
		b.signature[i] = (uint8_t)(255 - i);
	for (uint8_t i = 0; i < 32; i++)
		b.digest[i] = b.hint[i] = i;
	text = bundle_text(&b);
	assert_non_null(strstr(text, DIGEST));
	for (size_t i = 0; i + 2 < strlen(text); i++) /* every truncation; the last two are "}\n" */
		assert_int_equal(bundle_parse(text, i, &got, &err), -1);
	assert_int_equal(bundle_parse(text, strlen(text), &got, &err), 0);
	assert_memory_equal(&b, &got, sizeof(b));
}

/* As other programs write them: more fields, no hint, no algorithm. */
static void test_foreign(void **state)
{
	static const char text[] =
		HEAD "\"verificationMaterial\": {\"publicKey\": {}, \"tlogEntries\": []}, "
		     "\"messageSignature\": {\"messageDigest\": {\"algorithm\": \"SHA2_256\", "
		     "\"digest\": "
		     "\"" DIGEST "\"}, \"signature\": \"AAE=\"}}";
	struct bundle got = {0};
	struct err err;

	assert_int_equal(bundle_parse(text, strlen(text), &got, &err), 0);
	assert_int_equal(got.len, 2);
	assert_false(got.has_hint);
}

static void test_bad(void **state)
{
	static const char *const t[] = {"", "[]", "{}", "{\"mediaType\": 1}",
		"{\"mediaType\": \"application/vnd.dev.sigstore.bundle+json;version=0.1\"}",
		HEAD "\"x\": 1}", HEAD "\"verificationMaterial\": {\"certificate\": {}}}",
		HEAD KEY "\"dsseEnvelope\": {}}",
		HEAD KEY
		"\"messageSignature\": {\"messageDigest\": {\"digest\": \"AA==\"}, \"signature\": "
		"\"AA==\"}}",
		HEAD KEY "\"messageSignature\": {\"messageDigest\": {\"algorithm\": \"SHA2_512\", "
			 "\"digest\": "
			 "\"" DIGEST "\"}, \"signature\": \"AA==\"}}",
		HEAD KEY "\"messageSignature\": {\"messageDigest\": {\"digest\": \"" DIGEST "\"}, "
			 "\"signature\": \"\"}}",
		HEAD KEY "\"messageSignature\": {\"messageDigest\": {\"digest\": \"" DIGEST "\"}, "
			 "\"signature\": \"A===\"}}",
		HEAD KEY "\"messageSignature\": {\"messageDigest\": {\"digest\": \"" DIGEST "\"}, "
			 "\"signature\": \"AA=A\"}}",
		HEAD KEY "\"messageSignature\": {\"messageDigest\": {\"digest\": \"" DIGEST "\"}, "
			 "\"signature\": \"AA ==\"}}",
		HEAD HEAD};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct bundle got = {0};
		struct err err = {0};

		if (bundle_parse(t[i], strlen(t[i]), &got, &err) == 0)
			fail_msg("%s was taken", t[i]);
		assert_true(err.msg[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}

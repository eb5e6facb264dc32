/* SPDX-License-Identifier: Apache-2.0 */
/* What registries say: manifests and challenges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "fetch/challenge.h"
#include "fetch/manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define BLOB(type, digest, size)                                                                   \
	"{\"mediaType\": \"" type "\", \"digest\": \"" digest "\", \"size\": " size "}"
#define CONFIG       "\"config\": " BLOB(MANIFEST_SPEC, A, "12")
#define LAYERS(list) ", \"layers\": [" list "]}"

static void test_kit(void **state)
{
	static const char text[] = "{\"schemaVersion\": 2, \"artifactType\": \"" MANIFEST_KIT
				   "\", " CONFIG LAYERS(BLOB(MANIFEST_LAYER, B, "7") ", " BLOB(
					   MANIFEST_BUNDLE, A, "5") ", " BLOB(MANIFEST_PLAIN, B,
					   "64") ", " BLOB("application/of.somebody.else", A, "1"));
	struct manifest m;
	struct err err;

	assert_int_equal(manifest_parse(text, strlen(text), &m, &err), 0);
	assert_int_equal(m.form, MANIFEST_FORM_KIT);
	assert_string_equal(m.spec.digest, A);
	assert_int_equal(m.spec.size, 12);
	assert_string_equal(m.files.digest, B);
	assert_int_equal(m.bundle.size, 5);
	assert_int_equal(m.plain.size, 64);
	manifest_done(&m);
	for (size_t i = 0; i < strlen(text); i++)
		assert_int_equal(manifest_parse(text, i, &m, &err), -1);
}

static void test_forms(void **state)
{
	static const struct {
		const char *text;
		enum manifest_form form;
		const char *digest;
	} t[] = {
		/* No type of artifact, no files. */
		{"{" CONFIG LAYERS(BLOB("application/vnd.oci.empty.v1+json", B, "2")),
			MANIFEST_FORM_KIT, ""},
		{"{\"config\": {}" LAYERS(BLOB(MANIFEST_ZIP, B, "9")), MANIFEST_FORM_ZIP, B},
		{"{\"mediaType\": \"" OCI_INDEX "\", \"manifests\": ["
		 "{\"digest\": \"" A
		 "\", \"size\": 1, \"platform\": {\"os\": \"linux\", \"architecture\": "
		 "\"arm64\"}}, {\"digest\": \"" B
		 "\", \"size\": 1, \"platform\": {\"os\": \"linux\", "
		 "\"architecture\": \"amd64\"}}]}",
			MANIFEST_FORM_INDEX, ""},
		{"{\"mediaType\": \"" OCI_INDEX "\", \"annotations\": "
		 "{\"vnd.docker.sandbox.kit.descriptor\": \"{}\"}}",
			MANIFEST_FORM_DESCRIPTOR, ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err err = {0};
		struct manifest m;

		if (manifest_parse(t[i].text, strlen(t[i].text), &m, &err) < 0)
			fail_msg("%zu: %s", i, err.msg);
		assert_int_equal(m.form, t[i].form);
		assert_string_equal(m.files.digest, t[i].digest);
		if (m.form == MANIFEST_FORM_INDEX)
			assert_string_equal(m.next.digest, B);
		if (m.form == MANIFEST_FORM_DESCRIPTOR)
			assert_string_equal(m.descriptor, "{}");
		manifest_done(&m);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *says;
	} t[] = {
		{"[]", "the manifest is no JSON object"},
		{"{\"a\": 1, \"a\": 2}", "the manifest is no JSON object"},
		{"{}", "manifest: neither config nor layers"},
		{"{\"config\": " BLOB("application/vnd.oci.image.config.v1+json", A, "1")
				LAYERS(""),
			"not a kit but another image or artifact"},
		{"{\"artifactType\": \"" MANIFEST_KIT "\", \"config\": {}" LAYERS(""),
			"manifest: a kit whose config is no spec.yaml"},
		{"{" CONFIG LAYERS(""), "manifest: no layer with files"},
		{"{" CONFIG LAYERS(BLOB(MANIFEST_LAYER, B, "7") ", " BLOB(MANIFEST_LAYER, A, "7")),
			"manifest: more than one layer"},
		{"{" CONFIG LAYERS(BLOB(MANIFEST_LAYER, "sha256:x/../../x", "7")),
			"the digest of a layer is no sha256"},
		{"{" CONFIG LAYERS(BLOB(MANIFEST_LAYER, B, "-1")),
			"a layer has no size"},
		{"{" CONFIG LAYERS(BLOB(MANIFEST_LAYER, B, "67108865")),
			"a layer is larger than 64 MiB"},
		{"{\"manifests\": []}", "not made for linux/amd64"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err err = {0};
		struct manifest m;

		assert_int_equal(manifest_parse(t[i].text, strlen(t[i].text), &m, &err), -1);
		assert_string_equal(err.msg, t[i].says);
	}
}

static void test_challenge(void **state)
{
	static const char *const bad[] = {"", "Digest realm=x", "Bearer", "Bearer realm",
		"Bearer realm=", "Bearer service=\"x\"", "Bearer realm=\"x", "Bearer realm=\"x\" y",
		"Bearer realm=\"\\", "Bearer realm=\"a\nb\"", "Basically"};
	struct challenge c;
	_free_ char *large = xmalloc(2000);

	assert_true(challenge_parse(" Bearer realm=\"https://a.test/token\",service=\"a b\" , "
				    "scope=\"repository:x:pull,push\",error=\"e\"",
		&c));
	assert_true(c.bearer && !c.basic);
	assert_string_equal(c.realm, "https://a.test/token");
	assert_string_equal(c.service, "a b");
	assert_string_equal(c.scope, "repository:x:pull,push");
	assert_true(challenge_parse("bearer REALM=x", &c));
	assert_string_equal(c.realm, "x");
	assert_true(challenge_parse("Basic realm=\"x\"", &c));
	assert_true(c.basic && !c.bearer);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (challenge_parse(bad[i], &c))
			fail_msg("%s was taken", bad[i]);
	memset(large, 'x', 1999);
	memcpy(large, "Bearer realm=", 13);
	large[1999] = '\0';
	assert_false(challenge_parse(large, &c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kit),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_challenge),
	};

	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}

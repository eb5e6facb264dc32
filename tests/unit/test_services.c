/* SPDX-License-Identifier: Apache-2.0 */
/* The services that Hutch knows, and references to where values are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "kit/services.h"
#include "policy/policy.h"

static void load_own(struct kit *k)
{
	struct kit_errors errs = {0};
	struct err err = {0};

	setenv("HUTCH_SHARE", ".", 1); /* run in the source tree */
	if (services_load(k, &errs, &err) < 0) {
		kit_errors_print(&errs, stderr);
		fail_msg("%s", err.msg);
	}
	assert_int_equal(errs.n, 0);
	kit_errors_done(&errs);
}

static const struct kit_inject *inject_for(const struct kit_credential *c, const char *domain)
{
	for (size_t i = 0; i < c->n_injects; i++)
		if (strcmp(c->injects[i].domain, domain) == 0)
			return &c->injects[i];
	return NULL;
}

/* Every entry is whole, for names that a value may go to, and for TLS. */
static void test_own_table(void **state)
{
	static const char *const wanted[] = {"anthropic", "openai", "github", "google", "groq",
		"mistral", "xai", "openrouter", "deepseek", "cohere", "huggingface", "npm", "pypi",
		"gitlab"};
	struct kit k;

	load_own(&k);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		assert_non_null(services_find(&k, wanted[i]));
	for (size_t i = 0; i < k.n_credentials; i++) {
		const struct kit_credential *c = &k.credentials[i];

		assert_non_null(c->description);
		assert_false(c->required);
		assert_string_equal(services_of_variable(&k, c->env), c->service);
		/* In order, so that a reader finds a name, and so that none is there twice. */
		if (i)
			assert_true(strcmp(k.credentials[i - 1].service, c->service) < 0);
		for (size_t m = 0; m < c->n_injects; m++) {
			const struct kit_inject *in = &c->injects[m];

			assert_non_null(in->header);
			assert_non_null(strstr(in->format, "%s"));
			assert_null(strchr(in->domain, ':')); /* 443 */
			assert_memory_not_equal(in->domain, "**", 2);
		}
	}
	kit_done(&k);
}

static void test_lookup(void **state)
{
	const struct kit_inject *in;
	struct kit k;

	load_own(&k);
	assert_string_equal(services_of_variable(&k, "GH_TOKEN"), "github");
	assert_string_equal(services_of_variable(&k, "GITHUB_TOKEN"), "github");
	assert_null(services_of_variable(&k, "PATH"));
	assert_null(services_of_variable(&k, ""));
	assert_null(services_find(&k, "git"));
	in = inject_for(services_find(&k, "github"), "github.com");
	assert_string_equal(in->username, "x-access-token");
	in = inject_for(services_find(&k, "anthropic"), "api.anthropic.com");
	assert_string_equal(in->header, "x-api-key");
	assert_string_equal(in->format, "%s");
	kit_done(&k);
}

#define ENTRY                                                                                      \
	"  - service: a\n    apiKey:\n      name: A_KEY\n      inject: [{domain: a.test, scheme: "  \
	"bearer}]\n"

static void test_refused(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"", "empty"},
		{"[]", "map"},
		{"services: []\n", "unknown key"},
		{"credentials:\n" ENTRY ENTRY, "there already"},
		{"credentials:\n  - service: a\n    apiKey: {name: A_KEY}\n", "inject"},
		{"credentials:\n" ENTRY "variables: {B: b}\n", "a service of this file"},
		{"credentials:\n" ENTRY "variables: {A_KEY: a, \"1\": a}\n", "not a variable"},
		{"credentials:\n  - service: A\n    apiKey: {name: K, inject: [{domain: a.test, "
		 "scheme: bearer}]}\n",
			"lower-case"},
		{"credentials:\n  - service: a\n    apiKey: {name: K, inject: [{domain: \"**\", "
		 "scheme: bearer}]}\n",
			"by name"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kit_errors errs = {0};
		struct kit k;
		bool found = false;

		assert_int_equal(services_load_text(rows[i].text, strlen(rows[i].text), "s", &k,
					 &errs),
			-1);
		for (size_t m = 0; m < errs.n && !found; m++)
			found = strstr(errs.v[m].message, rows[i].says) != NULL;
		if (!found)
			fail_msg("row %zu: %s", i, errs.n ? errs.v[0].message : "no error");
		kit_errors_done(&errs);
	}
}

static void test_accepted(void **state)
{
	static const char text[] = "credentials:\n" ENTRY "variables: {B: a}\n";
	struct kit_errors errs = {0};
	struct kit k;

	assert_int_equal(services_load_text(text, strlen(text), "s", &k, &errs), 0);
	assert_string_equal(services_of_variable(&k, "B"), "a");
	assert_string_equal(services_of_variable(&k, "A_KEY"), "a");
	kit_done(&k);
	kit_errors_done(&errs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_table),
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_accepted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

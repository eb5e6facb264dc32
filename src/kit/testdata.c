/* SPDX-License-Identifier: Apache-2.0 */
/* A kit's own tests. */
#include "kit/testdata.h"

#include <stdlib.h>
#include <string.h>

#include "kit/blocks.h"
#include "kit/check.h"
#include "kit/schema.h"

#define TIMEOUT_MAX_S 3600
#define FILES_MAX     100 /* of one test */
#define HOSTS_MAX     1000

/* A whole number from @min to @max. */
static void load_number(
	struct load *l, const struct ynode *n, unsigned *ret, unsigned min, unsigned max)
{
	const char *s = n->value;
	unsigned long v = 0;

	if (ynode_reads_as(n, "a number") && strlen(s) <= 5 && !s[strspn(s, "0123456789")] &&
		(s[0] != '0' || !s[1]) && (v = strtoul(s, NULL, 10)) >= min && v <= max)
		*ret = (unsigned)v;
	else if (n->kind != YNODE_BAD)
		load_error(l, n, "expected a number from %u to %u, without quotes", min, max);
}

static void load_exit(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_number(l, n, FIELD_AT(base, f, unsigned), 0, 255);
}

static void load_timeout(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_number(l, n, FIELD_AT(base, f, unsigned), 1, TIMEOUT_MAX_S);
}

/* ---- tests ---- */

static void finish_file(struct load *l, const struct ynode *n, void *entry)
{
	const struct kit_test_file *f = entry;

	if (f->absent && (f->content || f->owner || f->mode || f->contains.n))
		load_error(l, n, "absent, expected nothing else about the file");
}

static const struct field file_rows[] = {
	ROW(kit_test_file, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_test_file, "content", load_string, content),
	ROW(kit_test_file, "contains", load_strv, contains, 0, check_not_empty),
	ROW(kit_test_file, "mode", load_string, mode, 0, check_mode),
	ROW(kit_test_file, "owner", load_string, owner, 0, check_user),
	ROW(kit_test_file, "absent", load_bool, absent),
};
static const struct shape test_file_shape =
	SHAPE(kit_test_file, file_rows, .finish = finish_file, .max = FILES_MAX);

static const struct field expect_rows[] = {
	{"exit", load_exit, offsetof(struct kit_test, exit),
		.json = "{\"type\":\"integer\",\"minimum\":0,\"maximum\":255}"},
	ROW(kit_test, "stdout", load_string, out),
	ROW(kit_test, "stdoutContains", load_strv, out_contains, 0, check_not_empty),
	ROW(kit_test, "stderrContains", load_strv, err_contains, 0, check_not_empty),
	LIST_ROW(kit_test, "files", files, test_file_shape),
};
static const struct shape expect_shape = SHAPE(kit_test, expect_rows);

static void finish_test(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_test *t = entry;

	t->line = n->line;
	if (!t->user)
		t->user = xstrdup(TESTDATA_USER);
	if (!t->timeout_s)
		t->timeout_s = TESTDATA_TIMEOUT_S;
}

static const struct field test_rows[] = {
	ROW(kit_test, "name", load_string, name, FIELD_REQUIRED, check_text),
	ROW(kit_test, "run", load_string, run, FIELD_REQUIRED, check_not_empty),
	ROW(kit_test, "user", load_string, user, 0, check_user),
	{"timeout", load_timeout, offsetof(struct kit_test, timeout_s),
		.json = "{\"type\":\"integer\",\"minimum\":1,\"maximum\":3600}"},
	STRUCT_ROW("expect", expect_shape),
};
static const struct shape test_shape =
	SHAPE(kit_test, test_rows, .finish = finish_test, .max = TESTDATA_TESTS_MAX);

/* ---- network ---- */

static void load_questions(struct load *l, const struct ynode *n, struct testdata *t, bool allowed)
{
	if (!load_is_list(l, n, "a list of hosts"))
		return;
	if (n->n > HOSTS_MAX) {
		load_error(l, n, "%zu entries, expected at most %d", n->n, HOSTS_MAX);
		return;
	}
	t->hosts = xrealloc(t->hosts, t->n_hosts + n->n, sizeof(*t->hosts));
	for (size_t i = 0; i < n->n; i++) {
		const char *s = load_scalar(l, n->items[i], "a host");

		if (s && check_text(s))
			load_error(l, n->items[i], "expected a host such as api.example.com:443");
		else if (s)
			t->hosts[t->n_hosts++] =
				(struct kit_test_host){n->items[i]->line, allowed, xstrdup(s)};
	}
}

static void load_allowed(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_questions(l, n, base, true);
}

static void load_refused(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_questions(l, n, base, false);
}

static const struct field network_rows[] = {
	CUSTOM_ROW("allowed", load_allowed, JSON_STRINGS),
	CUSTOM_ROW("refused", load_refused, JSON_STRINGS),
};
static const struct shape network_shape = SHAPE(testdata, network_rows);

static const struct field testdata_rows[] = {
	LIST_ROW(testdata, "tests", tests, test_shape),
	STRUCT_ROW("network", network_shape),
};
static const struct shape testdata_shape = SHAPE(testdata, testdata_rows);

json_t *testdata_schema(void)
{
	return schema_of(&testdata_shape, "Tests of a Hutch kit");
}

int testdata_load_text(const char *text, size_t len, const char *file, struct testdata *ret,
	struct kit_errors *errs)
{
	size_t before = errs->n_errors;
	struct testdata t = {0};
	struct load l = {.file = file, .errs = errs};
	struct ynode *root = ynode_read(text, len, file, errs);

	if (root)
		load_map(&l, root, &t, &testdata_shape);
	ynode_free(root);
	if (errs->n_errors != before) {
		kit_errors_sort(errs);
		testdata_done(&t);
		return -1;
	}
	*ret = t;
	return 0;
}

static void test_done(struct kit_test *t)
{
	free(t->name);
	free(t->run);
	free(t->user);
	free(t->out);
	strv_done(&t->out_contains);
	strv_done(&t->err_contains);
	for (size_t i = 0; i < t->n_files; i++) {
		free(t->files[i].path);
		free(t->files[i].content);
		free(t->files[i].owner);
		free(t->files[i].mode);
		strv_done(&t->files[i].contains);
	}
	free(t->files);
}

void testdata_done(struct testdata *t)
{
	for (size_t i = 0; i < t->n_tests; i++)
		test_done(&t->tests[i]);
	for (size_t i = 0; i < t->n_hosts; i++)
		free(t->hosts[i].target);
	free(t->tests);
	free(t->hosts);
	*t = (struct testdata){0};
}

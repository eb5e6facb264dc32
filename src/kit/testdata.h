/* SPDX-License-Identifier: Apache-2.0 */
/* A kit's own tests, testdata/NAME.yaml:
 *
 *	tests:
 *	  - name: jq reads a document
 *	    run: echo '{"a":1}' | jq .a
 *	    expect:
 *	      stdout: "1"
 *	network:
 *	  refused: [example.com]
 *
 * What they mean is hutch kit test's (cli/cmd_kit_test.c). */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"
#include "kit/report.h"

#define TESTDATA_TESTS_MAX 1000 /* in a file */
#define TESTDATA_USER      "1000"
#define TESTDATA_TIMEOUT_S 120

/* A file in the sandbox after the command. */
struct kit_test_file {
	char *path, *content, *owner, *mode; /* NULL: anything but for path */
	struct strv contains;
	bool absent;
};

struct kit_test {
	int line;
	char *name, *run, *user;
	unsigned timeout_s, exit;
	char *out; /* the whole of standard output; NULL: anything */
	struct strv out_contains, err_contains;
	struct kit_test_file *files;
	size_t n_files;
};

/* A question to the rules. */
struct kit_test_host {
	int line;
	bool allowed;
	char *target;
};

struct testdata {
	struct kit_test *tests;
	struct kit_test_host *hosts;
	size_t n_tests, n_hosts;
};

/* As preset_load_text: what is wrong is in @errs, *ret is only set on success. */
int testdata_load_text(const char *text, size_t len, const char *file, struct testdata *ret,
	struct kit_errors *errs);
void testdata_done(struct testdata *t);

/* The files that are tests, in the order of their names: NAME.sh, NAME.yaml. */
struct testdata_file {
	char *name;        /* owned: "tools.sh" */
	struct testdata t; /* of a YAML file */
	bool script;
};

struct testdata_dir {
	struct testdata_file *files; /* owned */
	size_t n;
};

/* Those below testdata/ of a kit; without such a directory, none. Released in both cases; what is
 * wrong in them is in @errs. */
int testdata_load_dir(const char *kit_dir, struct testdata_dir *ret, struct kit_errors *errs,
	struct err *err);
void testdata_dir_done(struct testdata_dir *d);
/* The JSON Schema of such a file. */
json_t *testdata_schema(void);

/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a kit's own tests. What loads keeps the promises of kit/testdata.h; what does not
 * says why, and where. */
#include <stdlib.h>
#include <string.h>

#include "kit/testdata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_test(const struct kit_test *t)
{
	must(t->line > 0 && t->name && t->name[0] && t->run && t->run[0] && t->user[0]);
	must(t->timeout_s >= 1 && t->timeout_s <= 3600 && t->exit <= 255);
	for (size_t i = 0; i < t->n_files; i++) {
		const struct kit_test_file *f = &t->files[i];

		must(f->path[0] == '/' && !strstr(f->path, "/../"));
		must(!f->absent || (!f->content && !f->owner && !f->mode && !f->contains.n));
		for (size_t k = 0; k < f->contains.n; k++)
			must(f->contains.v[k][0]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kit_errors errs = {0};
	struct testdata t;

	if (testdata_load_text((const char *)data, size, "t", &t, &errs) == 0) {
		for (size_t i = 0; i < t.n_tests; i++)
			check_test(&t.tests[i]);
		for (size_t i = 0; i < t.n_hosts; i++)
			must(t.hosts[i].line > 0 && t.hosts[i].target[0]);
		testdata_done(&t);
	} else {
		must(errs.n_errors > 0);
	}
	for (size_t i = 0; i < errs.n; i++)
		must(errs.v[i].line >= 0 && errs.v[i].column >= 0 && errs.v[i].message[0]);
	kit_errors_done(&errs);
	return 0;
}

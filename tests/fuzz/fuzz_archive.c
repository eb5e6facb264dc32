/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of kits: whatever the bytes are, what comes out has normal names, each once, and links
 * that stay. The first byte chooses ZIP, tar or layer. */
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "archive/extract.h"
#include "archive/names.h"
#include "base/mem.h"
#include "base/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct strv files;
	uint64_t bytes;
	bool layer;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int on_dir(void *arg, const char *path, struct err *err)
{
	check(name_check(path, NULL) == 0);
	return 0;
}

static int on_file(void *arg, const char *path, bool exec, struct err *err)
{
	struct seen *s = arg;

	check(name_check(path, NULL) == 0);
	check(!s->layer || strncmp(path, "files/home/", 11) == 0 ||
		strncmp(path, "files/workspace/", 16) == 0);
	/* Comparing each with each is for small archives. */
	check(s->files.n > 100 || !strv_has(&s->files, path));
	if (s->files.n <= 100)
		strv_add(&s->files, path);
	return 0;
}

static int on_data(void *arg, const void *p, size_t len, struct err *err)
{
	struct seen *s = arg;

	s->bytes += len;
	check(s->bytes <= TREE_BYTES_MAX && s->files.n);
	return 0;
}

static int on_link(void *arg, const char *path, const char *target, struct err *err)
{
	struct seen *s = arg;

	check(!s->layer && name_check(path, NULL) == 0 && name_link_stays(path, target));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool started;
	struct seen s = {.layer = size && data[0] % 3 == EXTRACT_LAYER};
	struct extract_sink sink = {on_dir, on_file, on_data, on_link, &s};
	struct err err;

	if (!started)
		setlocale(LC_CTYPE, "C.UTF-8");
	started = true;
	if (size > 1)
		extract(data + 1, size - 1, (enum extract_kind)(data[0] % 3), &sink, &err);
	strv_done(&s.files);
	return 0;
}

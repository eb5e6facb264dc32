/* SPDX-License-Identifier: Apache-2.0 */
/* References to kits: the pinned form of one that is accepted means the same and stays as it is;
 * nothing of it could be an option or leave its directory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "remote/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_git(const struct ref *r)
{
	check(*r->url != '-' && strstr(r->url, "://") &&
		!strpbrk(r->url, "%?# \t\n\\\"'`$;|&<>(){}*"));
	check(!strstr(r->url, "/../") && *r->dir != '-' && *r->dir != '/');
	check(strncmp(r->dir, "../", 3) != 0 && !strstr(r->dir, "/../") &&
		strcmp(r->dir, "..") != 0);
	check(!r->name || *r->name != '-');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = xstrndup((const char *)data, size), *pinned = NULL, *twice = NULL;
	struct ref r, again;
	struct err err;

	if (!ref_is_remote(text) || ref_parse(text, &r, &err) < 0)
		return 0;
	if (r.kind == REF_GIT)
		check_git(&r);
	if (r.pin) {
		pinned = ref_pinned(&r);
		check(ref_parse(pinned, &again, &err) == 0);
		check(again.kind == r.kind && strcmp(again.source, r.source) == 0 &&
			again.local == r.local && strcmp(again.pin, r.pin) == 0);
		twice = ref_pinned(&again);
		check(strcmp(pinned, twice) == 0);
		ref_done(&again);
	}
	ref_done(&r);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What names and registries say of images. The first byte chooses: a reference, which is then the
 * same in each of its forms; a configuration. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "oci/config.h"
#include "oci/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
	if (!good)
		abort();
}

static void same(const struct oci_ref *a, const struct oci_ref *b)
{
	must(strcmp(a->host, b->host) == 0 && strcmp(a->repo, b->repo) == 0 &&
		a->local == b->local);
}

static void check_ref(const char *text)
{
	static const char digest[] =
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	_free_ char *full = NULL, *pin = NULL, *twice = NULL;
	struct oci_ref r, again;

	if (oci_ref_parse(text, &r, NULL) < 0)
		return;
	must(!r.tag != !r.digest && *r.host && *r.repo);
	must(!strpbrk(r.host, "/@%?# \t\n\"'\\") && !strpbrk(r.repo, ":@%?# \t\n\"'\\"));
	must(!strstr(r.repo, "..") && !strstr(r.repo, "//") && *r.repo != '/' && *r.repo != '-');
	full = oci_ref_text(&r);
	must(oci_ref_parse(full, &again, NULL) == 0);
	same(&r, &again);
	twice = oci_ref_text(&again);
	must(strcmp(full, twice) == 0);
	oci_ref_done(&again);
	pin = oci_ref_pinned(&r, digest);
	must(oci_ref_parse(pin, &again, NULL) == 0 && strcmp(again.digest, digest) == 0);
	same(&r, &again);
	oci_ref_done(&again);
	oci_ref_done(&r);
}

static void check_config(const void *text, size_t len)
{
	struct image_config c;

	if (image_config_parse(text, len, &c, NULL) < 0)
		return;
	must(!c.workdir || *c.workdir);
	for (size_t i = 0; i < c.diff_ids.n; i++)
		must(oci_digest_valid(c.diff_ids.v[i]));
	image_config_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = size ? xstrndup((const char *)data + 1, size - 1) : NULL;

	if (size && *data == 'r')
		check_ref(text);
	else if (size && *data == 'c')
		check_config(data + 1, size - 1);
	return 0;
}

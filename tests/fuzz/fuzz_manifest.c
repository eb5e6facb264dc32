/* SPDX-License-Identifier: Apache-2.0 */
/* What registries say: manifests, and challenges. What is accepted is complete and within its
 * ceilings. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fetch/challenge.h"
#include "fetch/manifest.h"
#include "oci/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_blob(const struct manifest_blob *b, uint64_t max)
{
	check(!b->digest[0] || (oci_digest_valid(b->digest) && b->size <= max));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = xstrndup((const char *)data, size);
	struct challenge c;
	struct manifest m;
	struct err err;

	if (challenge_parse(text, &c))
		check(c.basic != c.bearer && (c.basic || c.realm[0]));
	if (manifest_parse(data, size, &m, &err) < 0)
		return 0;
	check_blob(&m.next, MANIFEST_MAX);
	check_blob(&m.spec, MANIFEST_SPEC_MAX);
	check_blob(&m.files, MANIFEST_FILES_MAX);
	check_blob(&m.bundle, MANIFEST_SIG_MAX);
	check_blob(&m.plain, MANIFEST_SIG_MAX);
	check((m.form == MANIFEST_FORM_INDEX) == (m.next.digest[0] != '\0'));
	check((m.form == MANIFEST_FORM_KIT) == (m.spec.digest[0] != '\0'));
	check(m.form != MANIFEST_FORM_ZIP || m.files.digest[0]);
	check((m.form == MANIFEST_FORM_DESCRIPTOR) == (m.descriptor != NULL));
	manifest_done(&m);
	return 0;
}

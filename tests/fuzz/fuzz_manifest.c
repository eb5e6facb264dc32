/* SPDX-License-Identifier: Apache-2.0 */
/* What registries say: manifests of kits and of images, and challenges. What is accepted is complete
 * and within its ceilings; an index leads both readers to the same manifest. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <string.h>

#include "base/mem.h"
#include "fetch/challenge.h"
#include "fetch/manifest.h"
#include "oci/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_blob(const struct oci_blob *b, uint64_t max)
{
	check(!b->digest[0] || (oci_digest_valid(b->digest) && b->size <= max));
}

static void check_kit(const struct manifest *m)
{
	check_blob(&m->next, OCI_MANIFEST_MAX);
	check_blob(&m->spec, MANIFEST_SPEC_MAX);
	check_blob(&m->files, MANIFEST_FILES_MAX);
	check_blob(&m->bundle, MANIFEST_SIG_MAX);
	check_blob(&m->plain, MANIFEST_SIG_MAX);
	check((m->form == MANIFEST_FORM_INDEX) == (m->next.digest[0] != '\0'));
	check((m->form == MANIFEST_FORM_KIT) == (m->spec.digest[0] != '\0'));
	check(m->form != MANIFEST_FORM_ZIP || m->files.digest[0]);
	check((m->form == MANIFEST_FORM_DESCRIPTOR) == (m->descriptor != NULL));
}

static void check_image(const struct oci_manifest *m)
{
	uint64_t all = 0;

	check(oci_digest_valid(m->is_index ? m->next.digest : m->config.digest));
	check(m->n_layers <= OCI_LAYERS_MAX && (!m->is_index || m->n_layers == 0));
	for (size_t i = 0; i < m->n_layers; i++) {
		check(oci_digest_valid(m->layers[i].digest));
		all += m->layers[i].size;
	}
	check(all <= OCI_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = xstrndup((const char *)data, size);
	struct oci_manifest image = {0};
	struct manifest kit = {0};
	struct challenge c;
	bool is_image;

	if (challenge_parse(text, &c))
		check(c.basic != c.bearer && (c.basic || c.realm[0]));
	is_image = oci_manifest_parse(data, size, &image, NULL) == 0;
	if (is_image)
		check_image(&image);
	if (manifest_parse(data, size, &kit, NULL) == 0) {
		check_kit(&kit);
		if (kit.form == MANIFEST_FORM_INDEX)
			check(is_image && strcmp(kit.next.digest, image.next.digest) == 0);
	}
	oci_manifest_done(&image);
	manifest_done(&kit);
	return 0;
}

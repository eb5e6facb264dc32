/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests of kits in OCI registries. */
#include "fetch/manifest.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"

#define DESCRIPTOR "vnd.docker.sandbox.kit.descriptor"

/* A part that can be there once. */
static int read_part(
	const json_t *o, const char *what, uint64_t max, struct oci_blob *ret, struct err *err)
{
	if (ret->digest[0])
		return err_set(err, ERR_USER, "manifest: more than one %s", what);
	return oci_blob_read(o, what, max, ret, err);
}

/* schemaVersion "3": the annotation is the kit. 1: it is there. */
static int read_descriptor(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *a = json_object_get(json_object_get(root, "annotations"), DESCRIPTOR);

	if (!a)
		return 0;
	if (!json_is_string(a) || json_string_length(a) > MANIFEST_DESCRIPTOR_MAX)
		return err_set(err, ERR_USER, "manifest: the descriptor is larger than 512 KiB");
	m->form = MANIFEST_FORM_DESCRIPTOR;
	m->descriptor = xstrdup(json_string_value(a));
	return 1;
}

static int read_layer(const json_t *o, struct manifest *m, bool *empty, struct err *err)
{
	const char *type = oci_text(o, "mediaType");

	if (strcmp(type, MANIFEST_LAYER) == 0 || strcmp(type, MANIFEST_ZIP) == 0) {
		if (strcmp(type, MANIFEST_ZIP) == 0)
			m->form = MANIFEST_FORM_ZIP;
		return read_part(o, "layer", MANIFEST_FILES_MAX, &m->files, err);
	}
	if (strcmp(type, MANIFEST_BUNDLE) == 0)
		return read_part(o, "signature bundle", MANIFEST_SIG_MAX, &m->bundle, err);
	if (strcmp(type, MANIFEST_PLAIN) == 0)
		return read_part(o, "signature", MANIFEST_SIG_MAX, &m->plain, err);
	*empty |= strcmp(type, OCI_EMPTY) == 0;
	return 0; /* somebody else's */
}

static int read_image(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *config = json_object_get(root, "config");
	const json_t *list = json_object_get(root, "layers"), *o;
	const char *type = oci_text(root, "artifactType");
	bool spec = strcmp(oci_text(config, "mediaType"), MANIFEST_SPEC) == 0, empty = false;
	size_t i;

	if (!json_is_object(config) || !json_is_array(list))
		return err_set(err, ERR_USER, "manifest: neither config nor layers");
	/* Some registries strip the artifact's type. */
	if (*type && strcmp(type, MANIFEST_KIT) == 0 && !spec)
		return err_set(err, ERR_USER, "manifest: a kit whose config is no spec.yaml");
	m->form = MANIFEST_FORM_KIT;
	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		if (read_layer(o, m, &empty, err) < 0)
			return -1;
	}
	if (m->form == MANIFEST_FORM_ZIP)
		return 0;
	if (!spec)
		return err_set(err, ERR_USER, "not a kit but another image or artifact");
	if (!m->files.digest[0] && !empty)
		return err_set(err, ERR_USER, "manifest: no layer with files");
	return read_part(config, "spec.yaml", MANIFEST_SPEC_MAX, &m->spec, err);
}

int manifest_parse(const void *text, size_t len, struct manifest *ret, struct err *err)
{
	struct manifest m = {0};
	json_t *root = oci_load(text, len, err);
	int result;

	if (!root)
		return -1;
	result = read_descriptor(root, &m, err);
	if (result == 0 && oci_is_index(root)) {
		m.form = MANIFEST_FORM_INDEX;
		result = oci_index_read(root, &m.next, err);
	} else if (result == 0) {
		result = read_image(root, &m, err);
	}
	json_decref(root);
	if (result < 0) {
		manifest_done(&m);
		return -1;
	}
	*ret = m;
	return 0;
}

void manifest_done(struct manifest *m)
{
	free(m->descriptor);
	*m = (struct manifest){0};
}

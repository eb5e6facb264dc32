/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests of kits in OCI registries. */
#include "fetch/manifest.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "oci/ref.h"

#define DESCRIPTOR   "vnd.docker.sandbox.kit.descriptor"
#define EMPTY        "application/vnd.oci.empty.v1+json"
#define DOCKER_INDEX "application/vnd.docker.distribution.manifest.list.v2+json"

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int read_blob(
	const json_t *o, const char *what, uint64_t max, struct manifest_blob *ret, struct err *err)
{
	const char *digest = text_of(o, "digest");
	const json_t *size = json_object_get(o, "size");

	if (ret->digest[0])
		return err_set(err, ERR_USER, "manifest: more than one %s", what);
	if (!oci_digest_valid(digest))
		return err_set(err, ERR_USER, "manifest: the digest of the %s is no sha256", what);
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(err, ERR_USER, "manifest: the %s has no size", what);
	if ((uint64_t)json_integer_value(size) > max)
		return err_set(err, ERR_USER, "the %s is larger than %llu KiB", what,
			(unsigned long long)max >> 10);
	memcpy(ret->digest, digest, strlen(digest) + 1);
	ret->size = (uint64_t)json_integer_value(size);
	return 0;
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

static int read_index(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *list = json_object_get(root, "manifests"), *o;
	size_t i;

	m->form = MANIFEST_FORM_INDEX;
	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		const json_t *platform = json_object_get(o, "platform");

		if (strcmp(text_of(platform, "os"), "linux") == 0 &&
			strcmp(text_of(platform, "architecture"), "amd64") == 0)
			return read_blob(o, "manifest", MANIFEST_MAX, &m->next, err);
	}
	return err_set(err, ERR_USER, "no manifest for linux/amd64");
}

static int read_layer(const json_t *o, struct manifest *m, bool *empty, struct err *err)
{
	const char *type = text_of(o, "mediaType");

	if (strcmp(type, MANIFEST_LAYER) == 0 || strcmp(type, MANIFEST_ZIP) == 0) {
		if (strcmp(type, MANIFEST_ZIP) == 0)
			m->form = MANIFEST_FORM_ZIP;
		return read_blob(o, "layer", MANIFEST_FILES_MAX, &m->files, err);
	}
	if (strcmp(type, MANIFEST_BUNDLE) == 0)
		return read_blob(o, "signature bundle", MANIFEST_SIG_MAX, &m->bundle, err);
	if (strcmp(type, MANIFEST_PLAIN) == 0)
		return read_blob(o, "signature", MANIFEST_SIG_MAX, &m->plain, err);
	*empty |= strcmp(type, EMPTY) == 0;
	return 0; /* somebody else's */
}

static int read_image(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *config = json_object_get(root, "config");
	const json_t *list = json_object_get(root, "layers"), *o;
	const char *type = text_of(root, "artifactType");
	bool spec = strcmp(text_of(config, "mediaType"), MANIFEST_SPEC) == 0, empty = false;
	size_t i;

	if (!json_is_object(config) || !json_is_array(list))
		return err_set(err, ERR_USER, "manifest: neither config nor layers");
	/* Some registries strip the artifact's type. */
	if (*type && strcmp(type, MANIFEST_KIT) == 0 && !spec)
		return err_set(err, ERR_USER, "manifest: a kit whose config is no spec.yaml");
	m->form = MANIFEST_FORM_KIT;
	json_array_foreach(
		(json_t *)(uintptr_t)list, i, o) if (read_layer(o, m, &empty, err) < 0) return -1;
	if (m->form == MANIFEST_FORM_ZIP)
		return 0;
	if (!spec)
		return err_set(err, ERR_USER, "not a kit but another image or artifact");
	if (!m->files.digest[0] && !empty)
		return err_set(err, ERR_USER, "manifest: no layer with files");
	return read_blob(config, "spec.yaml", MANIFEST_SPEC_MAX, &m->spec, err);
}

int manifest_parse(const void *text, size_t len, struct manifest *ret, struct err *err)
{
	struct manifest m = {0};
	json_error_t why;
	json_t *root;
	const char *type;
	int result;

	if (len > MANIFEST_MAX)
		return err_set(err, ERR_USER, "a manifest of more than 4 MiB");
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, ERR_USER, "the manifest is no JSON object");
	}
	type = text_of(root, "mediaType");
	result = read_descriptor(root, &m, err);
	if (result == 0 && (strcmp(type, MANIFEST_INDEX) == 0 || strcmp(type, DOCKER_INDEX) == 0 ||
				   (!*type && json_object_get(root, "manifests"))))
		result = read_index(root, &m, err);
	else if (result == 0)
		result = read_image(root, &m, err);
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

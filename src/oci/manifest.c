/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and indexes of images. */
#include "oci/manifest.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "oci/config.h"

#define OCI    "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

static const char *const index_types[] = {
	OCI "index.v1+json", DOCKER "distribution.manifest.list.v2+json", NULL};
static const char *const config_types[] = {
	OCI "config.v1+json", DOCKER "container.image.v1+json", NULL};
static const char *const layer_types[] = {OCI "layer.v1.tar", OCI "layer.v1.tar+gzip",
	OCI "layer.v1.tar+zstd", DOCKER "image.rootfs.diff.tar",
	DOCKER "image.rootfs.diff.tar.gzip", DOCKER "image.rootfs.diff.tar.zstd", NULL};

static bool is_one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(s, *list) == 0)
			return true;
	return false;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int wrong_type(const char *what, const char *type, struct err *err)
{
	char safe[100];

	log_safe(safe, sizeof(safe), type, strlen(type));
	if (strstr(type, "foreign") || strstr(type, "nondistributable"))
		return err_set(err, ERR_USER,
			"a %s of type %s, which the registry does not have itself", what, safe);
	return err_set(err, ERR_USER, "a %s of type %s, which cannot be used", what, safe);
}

static int read_blob(
	const json_t *o, const char *what, uint64_t max, struct oci_blob *ret, struct err *err)
{
	const char *digest = text_of(o, "digest");
	const json_t *size = json_object_get(o, "size");

	if (!oci_digest_valid(digest))
		return err_set(err, ERR_USER, "the digest of a %s is no sha256", what);
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(err, ERR_USER, "a %s has no size", what);
	if ((uint64_t)json_integer_value(size) > max)
		return err_set(err, ERR_USER, "a %s is larger than %llu MiB", what,
			(unsigned long long)max >> 20);
	memcpy(ret->digest, digest, OCI_DIGEST);
	ret->size = (uint64_t)json_integer_value(size);
	return 0;
}

/* "linux/arm64, windows/amd64": what there is instead. */
static int no_platform(const json_t *list, struct err *err)
{
	_buf_ struct buf have = {.max = 300};
	char safe[320];
	const json_t *o;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		const json_t *p = json_object_get(o, "platform");

		if (p && strcmp(text_of(p, "os"), "unknown") != 0)
			buf_printf(&have, "%s%s/%s", buf_len(&have) ? ", " : "", text_of(p, "os"),
				text_of(p, "architecture"));
	}
	return err_set(err, ERR_USER, "not made for linux/amd64%s%s",
		buf_len(&have) ? ", only for " : "",
		log_safe(safe, sizeof(safe), buf_cstr(&have), buf_len(&have)));
}

static int read_index(const json_t *root, struct oci_manifest *m, struct err *err)
{
	const json_t *list = json_object_get(root, "manifests"), *o;
	size_t i;

	m->is_index = true;
	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		const json_t *p = json_object_get(o, "platform");

		if (strcmp(text_of(p, "os"), "linux") == 0 &&
			strcmp(text_of(p, "architecture"), "amd64") == 0)
			return read_blob(o, "manifest", OCI_MANIFEST_MAX, &m->next, err);
	}
	return no_platform(list, err);
}

static int read_layers(const json_t *list, struct oci_manifest *m, struct err *err)
{
	uint64_t all = 0;
	const json_t *o;
	size_t i;

	if (json_array_size(list) > OCI_LAYERS_MAX)
		return err_set(err, ERR_USER, "more than %d layers", OCI_LAYERS_MAX);
	m->layers = xcalloc(json_array_size(list) + 1, sizeof(*m->layers));
	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		struct oci_blob *b = &m->layers[m->n_layers];

		/* An artifact that brings nothing says so (OCI image-spec 1.1, "empty descriptor"). */
		if (strcmp(text_of(o, "mediaType"), "application/vnd.oci.empty.v1+json") == 0)
			continue;
		if (!is_one_of(text_of(o, "mediaType"), layer_types))
			return wrong_type("layer", text_of(o, "mediaType"), err);
		if (read_blob(o, "layer", OCI_BYTES_MAX, b, err) < 0)
			return -1;
		all += b->size;
		if (all > OCI_BYTES_MAX)
			return err_set(
				err, ERR_USER, "layers of more than %llu GiB", OCI_BYTES_MAX >> 30);
		m->n_layers++;
	}
	return 0;
}

static int read_image(const json_t *root, struct oci_manifest *m, struct err *err)
{
	const json_t *config = json_object_get(root, "config");
	const json_t *layers = json_object_get(root, "layers");

	if (json_integer_value(json_object_get(root, "schemaVersion")) == 1)
		return err_set(err, ERR_USER,
			"made in Docker's first format, which nothing pushes any more");
	if (!json_is_object(config) || !json_is_array(layers))
		return err_set(err, ERR_USER, "a manifest with neither configuration nor layers");
	if (!is_one_of(text_of(config, "mediaType"), config_types))
		return wrong_type("configuration", text_of(config, "mediaType"), err);
	if (read_blob(config, "configuration", OCI_CONFIG_MAX, &m->config, err) < 0)
		return -1;
	return read_layers(layers, m, err);
}

int oci_manifest_parse(const void *text, size_t len, struct oci_manifest *ret, struct err *err)
{
	struct oci_manifest m = {0};
	const char *type;
	json_t *root;
	int result;

	if (len > OCI_MANIFEST_MAX)
		return err_set(err, ERR_USER, "a manifest of more than 4 MiB");
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, ERR_USER, "the manifest is no JSON object");
	}
	type = text_of(root, "mediaType");
	if (is_one_of(type, index_types) ||
		(!*type && json_is_array(json_object_get(root, "manifests"))))
		result = read_index(root, &m, err);
	else
		result = read_image(root, &m, err);
	json_decref(root);
	if (result < 0) {
		oci_manifest_done(&m);
		return -1;
	}
	*ret = m;
	return 0;
}

void oci_manifest_done(struct oci_manifest *m)
{
	free(m->layers);
	*m = (struct oci_manifest){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and indexes of images. */
#include "oci/manifest.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"
#include "oci/config.h"

#define OCI    "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

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

static int wrong_type(const char *what, const char *type, struct err *err)
{
	char safe[100];

	log_safe(safe, sizeof(safe), type, strlen(type));
	if (strstr(type, "foreign") || strstr(type, "nondistributable"))
		return err_set(err, ERR_USER,
			"a %s of type %s, which the registry does not have itself", what, safe);
	return err_set(err, ERR_USER, "a %s of type %s, which cannot be used", what, safe);
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
		if (strcmp(oci_text(o, "mediaType"), OCI_EMPTY) == 0)
			continue;
		if (!is_one_of(oci_text(o, "mediaType"), layer_types))
			return wrong_type("layer", oci_text(o, "mediaType"), err);
		if (oci_blob_read(o, "layer", OCI_BYTES_MAX, b, err) < 0)
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
	if (!is_one_of(oci_text(config, "mediaType"), config_types))
		return wrong_type("configuration", oci_text(config, "mediaType"), err);
	if (oci_blob_read(config, "configuration", OCI_CONFIG_MAX, &m->config, err) < 0)
		return -1;
	return read_layers(layers, m, err);
}

int oci_manifest_parse(const void *text, size_t len, struct oci_manifest *ret, struct err *err)
{
	struct oci_manifest m = {0};
	json_t *root = oci_load(text, len, err);
	int result;

	if (!root)
		return -1;
	m.is_index = oci_is_index(root);
	result = m.is_index ? oci_index_read(root, &m.next, err) : read_image(root, &m, err);
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

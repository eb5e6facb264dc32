/* SPDX-License-Identifier: Apache-2.0 */
/* What manifests of images and of kits have in common (OCI image-spec 1.1, descriptor.md and
 * image-index.md). Pure; for those who read manifests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "oci/ref.h"

#define OCI_MANIFEST_MAX (4u << 20)
#define OCI_INDEX        "application/vnd.oci.image.index.v1+json"
#define OCI_EMPTY        "application/vnd.oci.empty.v1+json" /* the layer of what brings none */

struct oci_blob {
	char digest[OCI_DIGEST]; /* "": there is none */
	uint64_t size;
};

/* The object of a manifest or an index, or NULL; to be released. */
json_t *oci_load(const void *text, size_t len, struct err *err);
/* The string @key of @o; "" where it is none. */
const char *oci_text(const json_t *o, const char *key);
bool oci_is_index(const json_t *root);
/* A descriptor of at most @max bytes; @what, for errors: "layer". */
int oci_blob_read(
	const json_t *o, const char *what, uint64_t max, struct oci_blob *ret, struct err *err);
/* The manifest for linux/amd64 of an index; where there is none, the error says what there is. */
int oci_index_read(const json_t *root, struct oci_blob *ret, struct err *err);

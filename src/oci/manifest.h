/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and indexes of images (OCI image-spec 1.1; Docker's schema 2). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "oci/descriptor.h"

#define OCI_LAYERS_MAX   256
#define OCI_BYTES_MAX    (32ULL << 30) /* of all layers, as they are fetched */

struct oci_manifest {
	bool is_index;
	struct oci_blob next; /* index: the manifest for linux/amd64 */
	struct oci_blob config;
	struct oci_blob *layers; /* owned; the lowest first */
	size_t n_layers;
};

/* An image without the platform, or with a layer of a type that cannot be merged, is an error that
 * says so. *ret is only set on success, and then to be released. */
int oci_manifest_parse(const void *text, size_t len, struct oci_manifest *ret, struct err *err);
void oci_manifest_done(struct oci_manifest *m);

/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests of kits in OCI registries. Pure.
 *
 * Three kinds of kit are there: schemaVersion "2" (spec.yaml is the config blob, files/ one layer),
 * schemaVersion "1" (one ZIP), schemaVersion "3" (an image whose descriptor is an annotation). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "oci/descriptor.h"

#define MANIFEST_SPEC   "application/vnd.docker.sandbox.kit.v2.spec+yaml"
#define MANIFEST_KIT    "application/vnd.docker.sandbox.kit.v2"
#define MANIFEST_LAYER  "application/vnd.oci.image.layer.v1.tar+gzip"
#define MANIFEST_ZIP    "application/vnd.docker.sandbox.kit.v1.content.zip"
#define MANIFEST_BUNDLE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define MANIFEST_PLAIN  "application/vnd.hutch.kit.signature.v1" /* kit.sig: of our own making */
#define MANIFEST_IMAGE  "application/vnd.oci.image.manifest.v1+json"

#define MANIFEST_SPEC_MAX       (1u << 20)
#define MANIFEST_FILES_MAX      (64u << 20)
#define MANIFEST_SIG_MAX        65536u
#define MANIFEST_DESCRIPTOR_MAX (512u << 10)

enum manifest_form {
	MANIFEST_FORM_INDEX,      /* of manifests: go on with next */
	MANIFEST_FORM_KIT,        /* spec, files */
	MANIFEST_FORM_ZIP,        /* files */
	MANIFEST_FORM_DESCRIPTOR, /* descriptor */
};

struct manifest {
	enum manifest_form form;
	struct oci_blob next, spec, files, bundle, plain;
	char *descriptor; /* owned */
};

/* *ret is only set on success, and then to be released. */
int manifest_parse(const void *text, size_t len, struct manifest *ret, struct err *err);
void manifest_done(struct manifest *m);

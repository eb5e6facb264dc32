/* SPDX-License-Identifier: Apache-2.0 */
/* Sigstore bundles, version 0.3, of the kind that a local key makes: a message signature and a hint
 * of the public key. (Certificates and transparency logs, of keyless signatures, are not read.) */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BUNDLE_MAX    65536
#define SIGNATURE_MAX 1024
#define BUNDLE_DIGEST 32

struct bundle {
	uint8_t signature[SIGNATURE_MAX];
	size_t len;
	uint8_t digest[BUNDLE_DIGEST]; /* SHA-256 of what was signed */
	uint8_t hint[BUNDLE_DIGEST];   /* SHA-256 of the public key's SubjectPublicKeyInfo */
	int has_hint;
};

/* JSON with a line break at its end; owned. */
char *bundle_text(const struct bundle *b);
int bundle_parse(const char *text, size_t len, struct bundle *ret, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* References to images, by Docker's rules. Pure.
 *
 *	[oci://][HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]
 *
 * The first part is a host when it has a dot, a colon or is localhost; else the image is Docker
 *Hub's, where a NAME of one part is library/NAME. Without tag and digest the tag is latest; beside
 *a digest a tag says nothing. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define OCI_SCHEME "oci://"
#define OCI_HUB    "docker.io"
#define OCI_DIGEST 72 /* "sha256:", 64 hexadecimal digits, NUL */

/* All strings are owned. */
struct oci_ref {
	char *host, *repo;
	char *tag;    /* NULL beside a digest */
	char *digest; /* "sha256:…", or NULL */
	bool local;   /* a loopback address */
};

int oci_ref_parse(const char *text, struct oci_ref *ret, struct err *err);
void oci_ref_done(struct oci_ref *r);
/* "oci://HOST/NAME@@digest", owned. */
char *oci_ref_pinned(const struct oci_ref *r, const char *digest);
/* As people write it, with all that was left out: "docker.io/library/debian:12"; owned. */
char *oci_ref_text(const struct oci_ref *r);
/* "sha256:" and 64 lower-case hexadecimal digits. */
bool oci_digest_valid(const char *s);

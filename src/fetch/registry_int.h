/* SPDX-License-Identifier: Apache-2.0 */
/* What pulling and pushing share. */
#pragma once

#include "fetch/registry.h"

void registry_digest(const void *p, size_t len, char digest[static OCI_DIGEST]);
/* One request; where the registry asks for a login, once more. */
int registry_do(
	struct registry *r, const struct http_request *q, struct http_answer *ret, struct err *err);
/* The manifest @reference of a kit or an image (@what, for errors): its bytes, which fit the digest where
 * @reference is one. */
int registry_manifest(struct registry *r, const char *reference, const char *what,
	struct buf *ret_text, char digest[static OCI_DIGEST], struct err *err);
/* An error that says what a status means. */
int registry_status(
	const struct registry *r, const char *what, const struct http_answer *a, struct err *err);

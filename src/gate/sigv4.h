/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Signature Version 4: a request that was signed with placeholder keys is signed again with the
 * real ones. No I/O.
 *
 * What the guest signed is not verified: its key is a placeholder that everybody knows. Taken from
 * it are the time, region and service, the names of signed fields, and the hash of the payload.
 * Both forms are read: the Authorization field, and the query of a presigned URL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/http1.h"

#define SIGV4_SIGNED_MAX 64  /* names of signed fields */
#define SIGV4_HASH_HEX   65u /* with NUL */

enum sigv4_form {
	SIGV4_NONE, /* not signed, or not in this way */
	SIGV4_HEADER,
	SIGV4_QUERY,
};

/* A request as it will be sent. Borrowed. */
struct sigv4_request {
	struct http1_slice method, path, query, host;
	const struct http1_header *headers;
	size_t n_headers;
};

/* What its signature says. Slices point into the request. */
struct sigv4 {
	enum sigv4_form form;
	char time[17]; /* 20150830T123600Z */
	char region[64], service[64];
	struct http1_slice signed_names[SIGV4_SIGNED_MAX];
	size_t n_signed;
	struct http1_slice payload; /* the hash to sign, as the request names it; or empty … */
	bool wants_hash;            /* … and then that of the body has to be computed */
};

/* Borrowed, terminated. */
struct sigv4_key {
	const char *id, *secret;
	const char *token; /* of a session, or NULL */
};

/* -1 with @err (ERR_USER) when the request is signed in a way that cannot be repeated. */
int sigv4_read(const struct sigv4_request *r, struct sigv4 *ret, struct err *err);
/* Sign anew. @body_hash: lower-case hexadecimal, with wants_hash; else NULL. Appends to @out the
 * value of Authorization, or the whole query (without '?') for a presigned URL. The caller sends
 * the token in X-Amz-Security-Token in the first case, and takes out the guest's in any. */
int sigv4_sign(const struct sigv4 *s, const struct sigv4_request *r, const struct sigv4_key *key,
	const char *body_hash, struct buf *out, struct err *err);
/* SHA-256 in lower-case hexadecimal. */
void sigv4_hash(const void *p, size_t len, char ret[static SIGV4_HASH_HEX]);

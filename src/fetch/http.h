/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP with one registry, over libcurl: https, or http with this machine. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct http;

/* Where the body of a good answer goes instead of the buffer. */
struct http_sink {
	/* Before the first byte: where in the whole it belongs, which is 0 or from. */
	int (*begin)(void *arg, uint64_t from);
	int (*data)(void *arg, const void *p, size_t len); /* -1 ends the transfer */
	void *arg;
	uint64_t from; /* what is before that is not wanted */
};

struct http_request {
	const char *method;        /* GET, POST, PUT, HEAD */
	const char *url;           /* a path of the registry ("/v2/…"), or absolute */
	const char *accept, *type; /* header fields, or NULL */
	const void *body;
	size_t len;
	size_t max; /* the most bytes of the answer's body in the buffer */
	const struct http_sink *sink; /* or NULL */
};

struct http_answer {
	long status;
	struct buf body;
	char *location;  /* absolute; NULL: none */
	char *challenge; /* WWW-Authenticate; NULL: none */
};

/* @host: with port, as in a reference; @auth: base64 of user:password for Basic, or NULL; @token: an
 * identity token instead, or NULL. */
struct http *http_new(const char *host, const char *auth, const char *token, struct err *err);
void http_free(struct http *h);
/* One request, with the token or password that the registry has asked for before. Redirects of GET
 * are followed, without these, and only to https (or http on this machine, from there). An answer
 * of any status is success; release it. */
int http_do(struct http *h, const struct http_request *r, struct http_answer *ret, struct err *err);
void http_answer_done(struct http_answer *a);
/* Answer a challenge of the registry; later requests carry the result. */
int http_log_in(struct http *h, const char *challenge, struct err *err);
/* "localhost", 127.0.0.0/8, [::1], with or without port. */
bool http_is_loopback(const char *host);

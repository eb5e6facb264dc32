/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the http1_*.c files only. */
#pragma once

#include "gate/http1.h"

bool http1_is_tchar(uint8_t c);
/* One field line without its CRLF. ERR_PEER with status 400. */
int http1_field(const char *line, size_t len, struct http1_header *ret, struct err *err);
/* Refuse with a status code. Always -1. */
int http1_refuse(struct err *err, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The next element of a comma-separated list, blanks trimmed; moves @rest behind it. False at the
 * end; empty elements are skipped. */
bool http1_next_token(struct http1_slice *rest, struct http1_slice *ret);
/* Fields that must be known before the body; at its end they would speak for another message. */
bool http1_trailer_forbidden(struct http1_slice name);
/* Whether an edit sets or drops the field. CGI's descendants read '_' as '-', so it does here. */
bool http1_is_edited(struct http1_slice name, const struct http1_edit *edits, size_t n);
/* The request target as http1_write sends it. */
void http1_put_target(const struct http1_head *h, struct buf *out);

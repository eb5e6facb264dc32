/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-encoding (RFC 3986 section 2), and parameters of a query. No I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "gate/http1.h"

/* What no encoding changes: letters, digits, "-", ".", "_" and "~". */
bool escape_is_unreserved(uint8_t c);
/* Append one byte as %XX. */
void escape_put_byte(struct buf *b, uint8_t c);
/* Append @p with everything escaped that is not unreserved. */
void escape_put(struct buf *b, const void *p, size_t n);
/* The byte that an escape at s.p[@at] stands for, or -1 when none begins there. */
int escape_at(struct http1_slice s, size_t at);

/* Whether the name or value @s, as it stands in a query, is @text when decoded. */
bool query_is(struct http1_slice s, const char *text);
/* The next of a query's parameters; moves @rest behind it. False at the end. */
bool query_next(
	struct http1_slice *rest, struct http1_slice *ret_name, struct http1_slice *ret_value);
/* Append @query with @name set to @value once, at the end, whatever it was before. */
void query_set(struct buf *out, struct http1_slice query, const char *name, const void *value,
	size_t value_len);
/* Append @query without the parameters @name whose value is @word. */
void query_drop(struct buf *out, struct http1_slice query, const char *name, const char *word);

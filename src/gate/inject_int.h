/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the inject*.c files only. */
#pragma once

#include "gate/inject.h"
#include "secret/secret.h"

/* A new text of at most @max bytes, wiped with @in. */
struct buf *inject_text(struct inject *in, size_t max);
/* The text as a slice that is not NULL. */
struct http1_slice inject_slice(const struct buf *b);
/* Set a header field, or with @value NULL drop it; the value stays where it is until @in is done.
 */
int inject_edit(struct inject *in, const char *name, const struct buf *value, struct err *err);
/* Mask @p in the answer. */
void inject_mask(struct inject *in, const void *p, size_t n);
/* As well, for what HTTP Basic carries (@pair lives as long as @in), which may be made once for many
 * requests: by whoever masks the value that it was made of, or by inject_mask_rest. */
void inject_mask_pair(struct inject *in, const struct buf *pair);
void inject_mask_rest(struct inject *in);
/* For the audit log. */
void inject_note(struct inject *in, const char *service);
/* Set Authorization, or what @header says, to HTTP Basic. */
int inject_basic(struct inject *in, const char *header, const char *username, struct secret *value,
	struct err *err);

/* inject_head.c: replace @word in target and fields, also inside HTTP Basic. Whether it was there.
 */
bool inject_replace(
	struct inject *in, struct http1_head *h, const char *word, struct secret *value);
/* The same in the fields of one name. */
bool inject_replace_field(struct inject *in, struct http1_head *h, const char *name,
	const char *word, struct secret *value);
/* Whether @word is in a field's value, also inside HTTP Basic. */
bool inject_has_word(struct http1_slice value, const char *word);

/* inject_aws.c: sign @h as it is now. @body: whole, or NULL. */
int inject_aws(struct inject *in, struct http1_head *h, const struct buf *body,
	struct secret *value, struct err *err);
bool inject_aws_wants_body(const struct http1_head *h);

/* inject_oauth.c */
bool inject_oauth_is_endpoint(const struct inject_request *q);
int inject_oauth(struct inject *in, const struct inject_request *q, struct http1_head *h,
	const struct buf *body, struct err *err);

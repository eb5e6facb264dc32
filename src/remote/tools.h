/* SPDX-License-Identifier: Apache-2.0 */
/* The programs that touch what comes from elsewhere: our own, and git. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "remote/cache.h"
#include "remote/ref.h"

/* hutch-archive extract @kind: the file @fd into the empty directory @to. */
int tool_extract(const char *kind, int fd, int to, struct err *err);
/* hutch-archive pack @kind: the directory @dirfd into the empty file @to. */
int tool_pack(const char *kind, int dirfd, int to, struct err *err);
/* hutch-fetch: *ret_digest is owned. @annotations: a new reference, taken; NULL: none. */
struct json_t;
int tool_registry(const char *op, const struct ref *r, const char *reference, int dirfd,
	struct json_t *annotations, char **ret_digest, struct err *err);
/* hutch-sign @verb @form, @message on its standard input, @fds from 3 on. *ret_out is owned. */
int tool_sign(const char *verb, const char *form, const void *message, size_t len, const int *fds,
	size_t nfds, char **ret_out, struct err *err);

/* The commit that @r's name is today; 40 digits, owned. */
char *git_resolve(const struct ref *r, struct err *err);
/* The directory of a pinned @r as "kit" in the stage. */
int git_fetch(const struct ref *r, const struct stage *s, struct err *err);

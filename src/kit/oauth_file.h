/* SPDX-License-Identifier: Apache-2.0 */
/* The file in which an agent keeps its OAuth tokens: its content with {{.AccessToken}} and the like
 * in it, and what these become. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kit/ynode.h"

/* A structure as JSON or TOML. NULL when it cannot be written so. Owned. */
char *oauth_file_encode(const struct ynode *structure, bool toml);

struct oauth_file_values {
	const char *access, *refresh; /* sentinels */
	uint64_t expires_ms;          /* since 1970 */
	const char *scopes;           /* separated by blanks */
};
/* @text with the values. In an encoded structure a leaf that is {{.ExpiresAt}} becomes a number,
 * one that is {{.Scopes}} a list; in a template (@verbatim) both are text. Owned. */
char *oauth_file_fill(const char *text, bool verbatim, const struct oauth_file_values *v);

/* SPDX-License-Identifier: Apache-2.0 */
/* What kits from elsewhere ask for beyond their own sandbox, as lines that people read, and how one
 * version compares with another. Pure. */
#pragma once

#include "kit/kit.h"

/* One sorted line per grant of the kits from @source: "allow api.example.com", "deny …",
 * "credential NAME to …", "port …", "privileged", "capability …", "kit …". */
void grants_of(const struct kit *kits, size_t n, const char *source, struct strv *ret);
/* What @now has beyond @old: "+ " and a line that is new and not covered by old ones, "- " and a
 * deny line that is gone. Nothing: it does not widen. */
void grants_widen(const struct strv *old, const struct strv *now, struct strv *ret);

/* SPDX-License-Identifier: Apache-2.0 */
/* Private to policy: label-wise matching, and parts of rules. */
#pragma once

#include "policy/policy.h"

/* Compare label by label from the right; "*" in @pattern stands for any one label. How many labels
 * of @name are left over in front, or -1 when they do not agree. */
int policy_labels_left(const char *pattern, const char *name);
/* Whether @method is one of "GET,HEAD". @fold: whatever the case. */
bool policy_method_in(const char *methods, const char *method, bool fold);
/* As policy_rule_covers, without looking at methods and paths. */
bool policy_rule_covers_host(const struct policy_rule *outer, const struct policy_rule *inner);

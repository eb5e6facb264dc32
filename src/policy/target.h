/* SPDX-License-Identifier: Apache-2.0 */
/* Private to policy: label-wise matching. */
#pragma once

/* Compare label by label from the right; "*" in @pattern stands for any one label. How many labels
 * of
 * @name are left over in front, or -1 when they do not agree. */
int policy_labels_left(const char *pattern, const char *name);

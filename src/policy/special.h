/* SPDX-License-Identifier: Apache-2.0 */
/* Private to policy: special-purpose ranges. */
#pragma once

#include "policy/name.h"

/* Whether the network names @a: holds it, and lies within the special range that holds it. Where
 * none does only the address itself is its name. */
bool policy_net_names(const struct policy_addr *net, unsigned prefix, const struct policy_addr *a);

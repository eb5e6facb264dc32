/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": configs of capabilities; private to the folder. */
#pragma once

#include "kit/fields.h"
#include "kit/kit.h"

/* capabilities_agent.c: each of struct kit. */
extern const struct shape lifecycle3_shape, context3_shape, sessions3_shape, interactive3_shape;
extern const struct shape skills3_shape, skill3_shape, acp3_shape;

/* Whether the capability whose config is being read may be gone without. */
static inline bool capability_optional(const struct kit *k)
{
	return k->n_capabilities && k->capabilities[k->n_capabilities - 1].optional;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": configs of capabilities; private to the folder. */
#pragma once

#include "kit/fields.h"
#include "kit/grammar.h"
#include "kit/kit.h"

/* capabilities_agent.c: of struct kit, and of its entries. */
extern const struct shape lifecycle3_shape, sessions3_shape, interactive3_shape;
extern const struct shape context3_shape, skills3_shape, skill3_shape, acp3_shape;
capability_fn add_context, add_skills, add_skill, add_acp;

/* Whether the capability whose config is being read may be gone without. */
static inline bool capability_optional(const struct kit *k)
{
	return k->n_capabilities && k->capabilities[k->n_capabilities - 1].optional;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What kits are made of, for people and programs. */
#pragma once

#include "kit/kit.h"

json_t *kit_json(const struct kit *k);
void kit_print(const struct kit *k, FILE *out);

/* SPDX-License-Identifier: Apache-2.0 */
/* struct box_spec as JSON. */
#include "wire/spec.h"

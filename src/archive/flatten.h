/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of an image → one tar stream. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "archive/layer.h"
#include "base/err.h"

#define FLATTEN_LAYERS_MAX 512

struct flatten {
	int dir;                         /* of the blobs */
	const struct layer_name *layers; /* the lowest first */
	size_t n_layers;
	int out; /* where the tar goes */
	int ca;  /* where a copy of the image's CA bundle goes; empty: it has none */
	void (*progress)(uint64_t done, uint64_t total);
	/* Set when a blob is not what its name says. */
	bool damaged;
};

/* Each layer is read twice: for names (archive/merge.h), and once it fits its digest, for data,
 * which has to fit its DiffID. */
int flatten(struct flatten *f, struct err *err);

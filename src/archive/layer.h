/* SPDX-License-Identifier: Apache-2.0 */
/* One layer of an image, as it is read: its compression, its entries, its two digests. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Of each 64 hexadecimal digits. */
struct layer_name {
	const char *blob; /* of what is stored: the name of its file */
	const char *diff; /* of the tar in it (OCI image-spec 1.1, config.md, "DiffID") */
};

struct layer;
struct archive_entry;

enum layer_sum { LAYER_BLOB, LAYER_DIFF };

/* The file of @name, borrowed, in @dir. @on_bytes is told how many bytes were read of it. NULL:
 * there is no such file. @sum: which digest will be checked. */
struct layer *layer_open(int dir, const struct layer_name *name, enum layer_sum sum,
	void (*on_bytes)(void *arg, uint64_t n), void *arg, struct err *err);
void layer_close(struct layer *l);
/* 1: *ret is the next entry, borrowed; 0: the end. */
int layer_next(struct layer *l, struct archive_entry **ret, struct err *err);
/* Bytes of the entry's file; 0 at its end. */
int64_t layer_data(struct layer *l, void *to, size_t max, struct err *err);
/* An entry announces @bytes: whether a layer of this size can have as many. */
int layer_announce(struct layer *l, uint64_t bytes, struct err *err);
uint64_t layer_size(const struct layer *l);

/* Read to the end, and check what was opened for. The blob can be checked after a failure, too. */
int layer_check_blob(struct layer *l, bool *ret_damaged, struct err *err);
int layer_check_diff(struct layer *l, struct err *err);

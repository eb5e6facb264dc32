/* SPDX-License-Identifier: Apache-2.0 */
/* Which root images were made of images from registries.
 *
 *	images/KEY.oci		a record; KEY is a digest of the pinned digests and the format
 *	images/tags.json	what tags were pinned as when they were last looked up
 *	blobs/DIGITS		manifests, configurations and layers, by SHA-256
 *	images/pull.lock	held while any of these are changed
 *
 * What is removed: records, then root images and blobs that no record names any more. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "image/image.h"

struct record {
	struct strv pins;  /* "oci://HOST/NAME@sha256:…": the image, then those on top */
	struct strv blobs; /* digits */
	char *image;       /* digits of the root image; owned */
	int64_t pulled;    /* seconds since 1970 */
};
void record_done(struct record *r);

/* The record for these pins; false: there is none, or its root image is gone. */
bool record_find(const struct strv *pins, struct record *ret);
/* Where it is, or would be; owned. */
char *record_path(const struct strv *pins, struct err *err);
/* Put it there. The root image is there already. */
int record_add(const struct record *r, struct err *err);
/* Only the record. */
int record_remove(const struct strv *pins, struct err *err);
/* All of them; *ret is an owned array, each to be released. */
int records_all(struct record **ret, size_t *ret_n, struct err *err);
void records_free(struct record *list, size_t n);

/* Wait for the lock: a descriptor. @progress tells that it is held by somebody else. */
int records_lock(image_progress_fn *progress, void *arg, struct err *err);
/* What @text ("docker.io/library/x:1") was pinned as; owned, NULL: not known. */
char *tags_get(const char *text);
/* Note that; with @pin NULL, forget it. */
int tags_set(const char *text, const char *pin, struct err *err);
/* All pins that tags have. */
void tags_all(struct strv *ret);
/* The tags that were pinned as @pin, sorted. */
void tags_of(const char *pin, struct strv *ret);

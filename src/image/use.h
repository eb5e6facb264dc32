/* SPDX-License-Identifier: Apache-2.0 */
/* Who needs which root images.
 *
 * A root image belongs to nobody between the moment it is found for a sandbox and the moment that
 * the sandbox exists. Whoever makes a sandbox therefore holds images/use.lock together with others,
 * and who removes images holds it alone. It is taken before all other locks but build.lock. */
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "image/image.h"

struct image_user {
	char *image;        /* owned: "base@DIGITS", or "oci://HOST/NAME@sha256:…" */
	bool any_layers;    /* on top; which is not known */
	struct strv layers; /* else those of these images, pinned */
};

struct image_users {
	struct image_user *list; /* owned */
	size_t n;
	bool running; /* some sandbox runs: with which kernel pack is not known */
};
/* @layers NULL: not known. */
void image_users_add(struct image_users *u, const char *image, const struct strv *layers);
void image_users_done(struct image_users *u);
/* Whether somebody needs the root image of @pins: the image and those on top. */
bool image_users_need(const struct image_users *u, const struct strv *pins);
/* Whether two pins are the same image, wherever it comes from. */
bool image_is_same(const char *pin, const char *other);

/* Alone: wait for those that hold it, which @progress tells (or NULL). A descriptor. */
int image_hold_alone(image_progress_fn *progress, void *arg, struct err *err);

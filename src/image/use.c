/* SPDX-License-Identifier: Apache-2.0 */
/* Who needs which root images. */
#include "image/use.h"

#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "image/internal.h"

void image_users_add(struct image_users *u, const char *image, const struct strv *layers)
{
	struct image_user *one;

	u->list = xrealloc(u->list, u->n + 1, sizeof(*u->list));
	one = &u->list[u->n++];
	*one = (struct image_user){.image = xstrdup(image), .any_layers = !layers};
	if (layers)
		strv_copy(&one->layers, layers);
}

void image_users_done(struct image_users *u)
{
	for (size_t i = 0; i < u->n; i++) {
		free(u->list[i].image);
		strv_done(&u->list[i].layers);
	}
	free(u->list);
	*u = (struct image_users){0};
}

bool image_is_same(const char *pin, const char *other)
{
	const char *a = strrchr(pin, '@'), *b = strrchr(other, '@');

	return strcmp(a ? a : pin, b ? b : other) == 0;
}

static bool needs(const struct image_user *u, const struct strv *pins)
{
	if (!image_is_same(u->image, pins->v[0]))
		return false;
	if (u->any_layers)
		return true;
	if (u->layers.n != pins->n - 1)
		return false;
	for (size_t i = 0; i < u->layers.n; i++)
		if (!image_is_same(u->layers.v[i], pins->v[i + 1]))
			return false;
	return true;
}

bool image_users_need(const struct image_users *u, const struct strv *pins)
{
	for (size_t i = 0; i < u->n; i++)
		if (needs(&u->list[i], pins))
			return true;
	return false;
}

#define LOCK "use.lock"

int image_hold(struct err *err)
{
	return images_lock(LOCK, LOCK_SH, NULL, NULL, NULL, err);
}

int image_hold_alone(image_progress_fn *progress, void *arg, struct err *err)
{
	return images_lock(LOCK, LOCK_EX, "waiting for another command", progress, arg, err);
}

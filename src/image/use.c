/* SPDX-License-Identifier: Apache-2.0 */
/* Who needs which root images. */
#include "image/use.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
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

static int hold(int how, image_progress_fn *progress, void *arg, struct err *err)
{
	_free_ char *images = image_dir("images", err), *path = NULL;
	_close_ int fd = -1;

	if (!images)
		return -1;
	path = fs_join(images, "use.lock");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, "%s", path);
	if (flock(fd, how | LOCK_NB) == 0)
		return steal_fd(&fd);
	if (progress)
		progress(arg, "waiting for another command", -1);
	while (flock(fd, how) < 0)
		if (errno != EINTR)
			return err_errno(err, "%s", path);
	return steal_fd(&fd);
}

int image_hold(struct err *err)
{
	return hold(LOCK_SH, NULL, NULL, err);
}

int image_hold_alone(image_progress_fn *progress, void *arg, struct err *err)
{
	return hold(LOCK_EX, progress, arg, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Kits on their way out: ZIP files and registries. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/tree.h"
#include "remote/remote.h"
#include "remote/tools.h"

int remote_pack(const char *dir, const char *to, struct err *err)
{
	_free_ char *tmp = xasprintf("%s.%d.tmp", to, (int)getpid());
	_close_ int from = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), out = -1;

	if (from < 0)
		return err_errno(err, "%s", dir);
	out = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (out < 0)
		return err_errno(err, "%s", to);
	if (tool_pack("zip", from, out, err) < 0)
		err_wrap(err, "%s", dir);
	else if (fsync(out) == 0 && rename(tmp, to) == 0)
		return 0;
	else
		err_errno(err, "%s", to);
	unlink(tmp);
	return -1;
}

/* What a layer cannot hold is left out, with a word. */
static void tell_losses(const struct remote *r, int dirfd)
{
	struct tree t;

	if (!r->notice || tree_list(dirfd, &t, NULL) < 0)
		return;
	for (size_t i = 0; i < t.n; i++) {
		_free_ char *text = NULL;

		if (strncmp(t.v[i].path, "files/", 6) == 0 && t.v[i].exec)
			text = xasprintf("%s: the artifact does not keep that it is executable; a "
					 "signature of it will not fit any more",
				t.v[i].path);
		if (text)
			r->notice(text);
	}
	tree_done(&t);
}

static int copy_part(int from, const char *name, int to, struct err *err)
{
	_buf_ struct buf data = {.max = 1 << 20};

	if (faccessat(from, name, F_OK, 0) < 0)
		return 0;
	if (fs_read_file(from, name, &data, err) < 0)
		return -1;
	return fs_write_file(to, name, buf_cstr(&data), buf_len(&data), 0600, err);
}

static void annotate(json_t *o, const char *key, const char *value)
{
	if (value && *value)
		json_object_set_new(o, key, json_string(value));
}

static json_t *annotations(const struct kit *k)
{
	json_t *o = json_object();

	annotate(o, "vnd.docker.sandbox.kit.name", k->name);
	annotate(o, "vnd.docker.sandbox.kit.kind", k->kind == KIT_MIXIN ? "mixin" : "sandbox");
	annotate(o, "vnd.docker.sandbox.kit.version", k->version);
	annotate(o, "org.opencontainers.image.title", k->display_name ? k->display_name : k->name);
	annotate(o, "org.opencontainers.image.description", k->description);
	annotate(o, "org.opencontainers.image.source", k->source_url);
	/* The same kit is the same artifact whenever it is pushed. */
	annotate(o, "org.opencontainers.image.created", "1970-01-01T00:00:00Z");
	return o;
}

static int push(struct remote *r, const struct kit *k, struct ref *ref, struct err *err)
{
	static const char *const parts[] = {"spec.yaml", SIGN_BUNDLE, SIGN_PLAIN};
	_close_ int dirfd = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), layer = -1;
	struct stage s = {0};
	int result = 0;

	if (dirfd < 0)
		return err_errno(err, "%s", k->dir);
	if (stage_open(&s, err) < 0)
		return -1;
	tell_losses(r, dirfd);
	for (size_t i = 0; result == 0 && i < ARRAY_SIZE(parts); i++)
		result = copy_part(dirfd, parts[i], s.fd, err);
	layer = openat(s.fd, "layer", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (result == 0 && layer < 0)
		result = err_errno(err, "%s", s.path);
	if (result == 0)
		result = tool_pack("layer", dirfd, layer, err);
	if (result == 0)
		result = tool_registry("push", ref, ref->name ? ref->name : "latest", s.fd,
			annotations(k), &ref->pin, err);
	stage_close(&s);
	return result;
}

int remote_push(struct remote *r, const struct kit *k, const char *to, char **ret, struct err *err)
{
	struct ref ref;
	int result;

	if (k->schema != 2)
		return err_set(err, ERR_USER,
			"kit %s: only schemaVersion \"2\" is pushed; \"3\" is published as an "
			"image",
			k->name);
	if (ref_parse(to, &ref, err) < 0)
		return -1;
	if (ref.kind != REF_OCI || ref.pin)
		result = err_set(err, ERR_USER, "%s: expected oci://HOST/NAME:TAG", to);
	else
		result = push(r, k, &ref, err);
	if (result == 0)
		*ret = ref_pinned(&ref);
	ref_done(&ref);
	return result;
}

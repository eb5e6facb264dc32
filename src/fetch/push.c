/* SPDX-License-Identifier: Apache-2.0 */
/* Pushing kits to an OCI registry. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "fetch/registry_int.h"

#define ANSWER_MAX (1u << 20)

static const struct part {
	const char *name, *type;
} parts[] = {{"spec.yaml", MANIFEST_SPEC}, {"layer", MANIFEST_LAYER},
	{"kit.sig.bundle", MANIFEST_BUNDLE}, {"kit.sig", MANIFEST_PLAIN}};

/* *ret_url: where an upload goes, with the digest; owned. */
static int start_upload(struct registry *r, const char *digest, char **ret_url, struct err *err)
{
	_free_ char *url = xasprintf("/v2/%s/blobs/uploads/", r->repo);
	struct http_request q = {.method = "POST", .url = url, .max = ANSWER_MAX};
	struct http_answer a;
	int result = 0;

	if (registry_do(r, &q, &a, err) < 0)
		return -1;
	if (a.status != 202 || !a.location)
		result = registry_status(r, "upload", &a, err);
	else
		*ret_url = xasprintf(
			"%s%sdigest=%s", a.location, strchr(a.location, '?') ? "&" : "?", digest);
	http_answer_done(&a);
	return result;
}

static int push_blob(
	struct registry *r, const struct buf *data, const char *digest, struct err *err)
{
	_free_ char *url = NULL;
	struct http_request q = {.method = "PUT",
		.type = "application/octet-stream",
		.body = buf_head(data),
		.len = buf_len(data),
		.max = ANSWER_MAX};
	struct http_answer a;
	int result = 0;

	if (start_upload(r, digest, &url, err) < 0)
		return -1;
	q.url = url;
	if (registry_do(r, &q, &a, err) < 0)
		return -1;
	if (a.status != 201 && a.status != 204)
		result = registry_status(r, "upload", &a, err);
	http_answer_done(&a);
	return result;
}

/* One part; *ret_blob is its descriptor (a new reference), NULL when the kit has none. */
static int push_part(
	struct registry *r, const struct part *p, int dirfd, json_t **ret_blob, struct err *err)
{
	_buf_ struct buf data = {.max = MANIFEST_FILES_MAX};
	char digest[OCI_DIGEST];

	*ret_blob = NULL;
	if (faccessat(dirfd, p->name, F_OK, 0) < 0)
		return 0;
	if (fs_read_file(dirfd, p->name, &data, err) < 0)
		return -1;
	registry_digest(buf_head(&data), buf_len(&data), digest);
	if (push_blob(r, &data, digest, err) < 0)
		return err_wrap(err, "%s", p->name);
	*ret_blob = json_pack("{s:s, s:s, s:I}", "mediaType", p->type, "digest", digest, "size",
		(json_int_t)buf_len(&data));
	return 0;
}

static int put_manifest(struct registry *r, const char *tag, json_t *manifest,
	char digest[static OCI_DIGEST], struct err *err)
{
	_free_ char *url = NULL, *text = json_dumps(manifest, JSON_COMPACT);
	struct http_request q = {.method = "PUT",
		.type = MANIFEST_IMAGE,
		.body = text,
		.len = text ? strlen(text) : 0,
		.max = ANSWER_MAX};
	struct http_answer a;
	int result = 0;

	if (!text)
		return err_set(err, ERR_BUG, "the manifest cannot be encoded");
	registry_digest(text, q.len, digest);
	url = xasprintf("/v2/%s/manifests/%s", r->repo, *tag ? tag : digest);
	q.url = url;
	if (registry_do(r, &q, &a, err) < 0)
		return -1;
	if (a.status != 201)
		result = registry_status(r, "manifest", &a, err);
	http_answer_done(&a);
	return result;
}

int registry_push(struct registry *r, const char *tag, int dirfd, const json_t *annotations,
	char digest[static OCI_DIGEST], struct err *err)
{
	json_t *layers = json_array(), *manifest, *config = NULL;
	int result = 0;

	for (size_t i = 0; result == 0 && i < ARRAY_SIZE(parts); i++) {
		json_t *blob;

		result = push_part(r, &parts[i], dirfd, &blob, err);
		if (i == 0)
			config = blob;
		else if (blob)
			json_array_append_new(layers, blob);
	}
	if (result < 0 || !config) {
		json_decref(layers);
		json_decref(config);
		return result < 0 ? -1 : err_set(err, ERR_BUG, "nothing to push");
	}
	manifest = json_pack("{s:i, s:s, s:s, s:o, s:o, s:O}", "schemaVersion", 2, "mediaType",
		MANIFEST_IMAGE, "artifactType", MANIFEST_KIT, "config", config, "layers", layers,
		"annotations", annotations);
	result = put_manifest(r, tag, manifest, digest, err);
	json_decref(manifest);
	return result;
}

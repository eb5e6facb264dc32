/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling kits from an OCI registry. Nothing that comes is believed before its digest fits. */
#include "fetch/registry.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "fetch/registry_int.h"
#include "oci/ref.h"

#define ACCEPT                                                                                     \
	MANIFEST_IMAGE ", " OCI_INDEX                                                         \
		       ", application/vnd.docker.distribution.manifest.v2+json"                    \
		       ", application/vnd.docker.distribution.manifest.list.v2+json"

void registry_digest(const void *p, size_t len, char digest[static OCI_DIGEST])
{
	struct sha256 s;

	memcpy(digest, "sha256:", 7);
	sha256_init(&s);
	sha256_add(&s, p, len);
	sha256_hex(&s, digest + 7);
}

int registry_status(
	const struct registry *r, const char *what, const struct http_answer *a, struct err *err)
{
	_free_ char *place = xasprintf("%s/%s", r->host, r->repo);

	if (a->status == 404)
		return err_set(err, ERR_USER, "%s: no such %s", place, what);
	if (a->status == 401 || a->status == 403) {
		err_set(err, ERR_USER, "%s: access denied", place);
		return err_hint(err,
			"docker login %s, or an entry of your own in "
			"~/.docker/config.json",
			r->host);
	}
	err_set(err, ERR_PEER, "%s: status %ld for the %s", place, a->status, what);
	if (a->status == 429)
		err_hint(err, "too many requests: wait, or docker login %s", r->host);
	return -1;
}

int registry_do(
	struct registry *r, const struct http_request *q, struct http_answer *ret, struct err *err)
{
	struct http_answer a;
	int result;

	if (http_do(r->http, q, &a, err) < 0)
		return -1;
	if (a.status != 401) {
		*ret = a;
		return 0;
	}
	result = http_log_in(r->http, a.challenge, err);
	http_answer_done(&a);
	return result < 0 ? -1 : http_do(r->http, q, ret, err);
}

int registry_manifest(struct registry *r, const char *reference, const char *what,
	struct buf *ret_text, char digest[static OCI_DIGEST], struct err *err)
{
	_free_ char *url = xasprintf("/v2/%s/manifests/%s", r->repo, reference);
	struct http_request q = {
		.method = "GET", .url = url, .accept = ACCEPT, .max = OCI_MANIFEST_MAX};
	struct http_answer a;
	char got[OCI_DIGEST];

	if (registry_do(r, &q, &a, err) < 0)
		return -1;
	if (a.status != 200) {
		registry_status(r, what, &a, err);
		http_answer_done(&a);
		return -1;
	}
	registry_digest(buf_head(&a.body), buf_len(&a.body), got);
	if (oci_digest_valid(reference) && strcmp(reference, got) != 0) {
		http_answer_done(&a);
		return err_set(err, ERR_PEER, "%s/%s: another manifest than %s", r->host, r->repo,
			reference);
	}
	memcpy(digest, got, sizeof(got));
	*ret_text = a.body;
	a.body = (struct buf){0};
	http_answer_done(&a);
	return 0;
}

int registry_resolve(
	struct registry *r, const char *reference, char digest[static OCI_DIGEST], struct err *err)
{
	struct buf text = {0};

	if (registry_manifest(r, reference, "kit", &text, digest, err) < 0)
		return -1;
	buf_done(&text);
	return 0;
}

static int pull_blob(struct registry *r, const struct oci_blob *b, int dirfd, const char *name,
	struct err *err)
{
	_free_ char *url = xasprintf("/v2/%s/blobs/%s", r->repo, b->digest);
	struct http_request q = {.method = "GET", .url = url, .max = (size_t)b->size};
	char got[OCI_DIGEST];
	struct http_answer a;
	int result;

	if (!b->digest[0])
		return 0;
	if (registry_do(r, &q, &a, err) < 0)
		return -1;
	registry_digest(buf_head(&a.body), buf_len(&a.body), got);
	if (a.status != 200)
		result = registry_status(r, name, &a, err);
	else if (buf_len(&a.body) != b->size || strcmp(got, b->digest) != 0)
		result = err_set(err, ERR_PEER, "%s/%s: the %s is not what its digest says",
			r->host, r->repo, name);
	else
		result = fs_write_file(dirfd, name, buf_head(&a.body), buf_len(&a.body), 0600, err);
	http_answer_done(&a);
	return result;
}

static int pull_parts(struct registry *r, const struct manifest *m, int dirfd, struct err *err)
{
	if (m->form == MANIFEST_FORM_DESCRIPTOR)
		return fs_write_file(
			dirfd, "descriptor.json", m->descriptor, strlen(m->descriptor), 0600, err);
	if (pull_blob(r, &m->spec, dirfd, "spec.yaml", err) < 0 ||
		pull_blob(r, &m->files, dirfd, m->form == MANIFEST_FORM_ZIP ? "kit.zip" : "layer",
			err) < 0 ||
		pull_blob(r, &m->bundle, dirfd, "kit.sig.bundle", err) < 0)
		return -1;
	return pull_blob(r, &m->plain, dirfd, "kit.sig", err);
}

/* @reference, and where it is an index, the manifest in it that is ours. */
int registry_pull(struct registry *r, const char *reference, int dirfd,
	char digest[static OCI_DIGEST], struct err *err)
{
	_free_ char *next = xstrdup(reference);
	char first[OCI_DIGEST] = "", got[OCI_DIGEST];

	for (int level = 0; level < 2; level++) {
		struct buf text = {0};
		struct manifest m;
		int result;

		if (registry_manifest(r, next, "kit", &text, got, err) < 0)
			return -1;
		if (!first[0])
			memcpy(first, got, sizeof(got));
		result = manifest_parse(buf_cstr(&text), buf_len(&text), &m, err);
		buf_done(&text);
		if (result < 0)
			return err_wrap(err, "%s/%s", r->host, r->repo);
		if (m.form != MANIFEST_FORM_INDEX) {
			result = pull_parts(r, &m, dirfd, err);
			manifest_done(&m);
			memcpy(digest, first, sizeof(first));
			return result;
		}
		free(next);
		next = xstrdup(m.next.digest);
		manifest_done(&m);
	}
	return err_set(err, ERR_PEER, "%s/%s: an index of indexes", r->host, r->repo);
}

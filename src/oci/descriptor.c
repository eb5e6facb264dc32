/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors and indexes. */
#include "oci/descriptor.h"

#include <string.h>

#include "base/buf.h"
#include "base/log.h"

#define DOCKER_INDEX "application/vnd.docker.distribution.manifest.list.v2+json"

json_t *oci_load(const void *text, size_t len, struct err *err)
{
	json_t *root;

	if (len > OCI_MANIFEST_MAX) {
		err_set(err, ERR_USER, "a manifest of more than 4 MiB");
		return NULL;
	}
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(root))
		return root;
	json_decref(root);
	err_set(err, ERR_USER, "the manifest is no JSON object");
	return NULL;
}

const char *oci_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

bool oci_is_index(const json_t *root)
{
	const char *type = oci_text(root, "mediaType");

	return strcmp(type, OCI_INDEX) == 0 || strcmp(type, DOCKER_INDEX) == 0 ||
	       (!*type && json_is_array(json_object_get(root, "manifests")));
}

int oci_blob_read(
	const json_t *o, const char *what, uint64_t max, struct oci_blob *ret, struct err *err)
{
	const char *digest = oci_text(o, "digest");
	const json_t *size = json_object_get(o, "size");
	bool small = max < 1u << 20;

	if (!oci_digest_valid(digest))
		return err_set(err, ERR_USER, "the digest of a %s is no sha256", what);
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(err, ERR_USER, "a %s has no size", what);
	if ((uint64_t)json_integer_value(size) > max)
		return err_set(err, ERR_USER, "a %s is larger than %llu %s", what,
			(unsigned long long)max >> (small ? 10 : 20), small ? "KiB" : "MiB");
	memcpy(ret->digest, digest, OCI_DIGEST);
	ret->size = (uint64_t)json_integer_value(size);
	return 0;
}

/* "linux/arm64, windows/amd64": what there is instead. */
static int no_platform(const json_t *list, struct err *err)
{
	_buf_ struct buf have = {.max = 300};
	char safe[320];
	const json_t *o;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		const json_t *p = json_object_get(o, "platform");

		if (p && strcmp(oci_text(p, "os"), "unknown") != 0)
			buf_printf(&have, "%s%s/%s", buf_len(&have) ? ", " : "", oci_text(p, "os"),
				oci_text(p, "architecture"));
	}
	return err_set(err, ERR_USER, "not made for linux/amd64%s%s",
		buf_len(&have) ? ", only for " : "",
		log_safe(safe, sizeof(safe), buf_cstr(&have), buf_len(&have)));
}

int oci_index_read(const json_t *root, struct oci_blob *ret, struct err *err)
{
	const json_t *list = json_object_get(root, "manifests"), *o;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		const json_t *p = json_object_get(o, "platform");

		if (strcmp(oci_text(p, "os"), "linux") == 0 &&
			strcmp(oci_text(p, "architecture"), "amd64") == 0)
			return oci_blob_read(o, "manifest", OCI_MANIFEST_MAX, ret, err);
	}
	return no_platform(list, err);
}

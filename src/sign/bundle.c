/* SPDX-License-Identifier: Apache-2.0 */
/* Sigstore bundles (https://docs.sigstore.dev/about/bundle). */
#include "sign/bundle.h"

#include <string.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "base/mem.h"

#define MEDIA_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"

static char *encode(const uint8_t *p, size_t len)
{
	char *text = xmalloc(4 * ((len + 2) / 3) + 1);

	EVP_EncodeBlock((unsigned char *)text, p, (int)len);
	return text;
}

/* Strict base64; the number of bytes, or -1. */
static long decode(const char *text, uint8_t *to, size_t max)
{
	size_t len = strlen(text), pad = 0;
	_free_ uint8_t *out = NULL;

	if (!len || len % 4 || len / 4 * 3 > max + 2)
		return -1;
	pad = (size_t)(text[len - 1] == '=') + (size_t)(text[len - 2] == '=');
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") !=
		len - pad)
		return -1;
	out = xmalloc(len / 4 * 3);
	if (EVP_DecodeBlock(out, (const unsigned char *)text, (int)len) < 0 ||
		len / 4 * 3 - pad > max)
		return -1;
	memcpy(to, out, len / 4 * 3 - pad);
	return (long)(len / 4 * 3 - pad);
}

char *bundle_text(const struct bundle *b)
{
	_free_ char *signature = encode(b->signature, b->len);
	_free_ char *digest = encode(b->digest, sizeof(b->digest));
	_free_ char *hint = encode(b->hint, sizeof(b->hint));
	json_t *j = json_pack("{s:s, s:{s:{s:s}}, s:{s:{s:s, s:s}, s:s}}", "mediaType", MEDIA_TYPE,
		"verificationMaterial", "publicKey", "hint", hint, "messageSignature",
		"messageDigest", "algorithm", "SHA2_256", "digest", digest, "signature", signature);
	_free_ char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;

	json_decref(j);
	return text ? xasprintf("%s\n", text) : NULL;
}

static int fill(const json_t *j, struct bundle *b, struct err *err)
{
	const char *type = NULL, *hint = "", *algorithm = "SHA2_256", *digest = NULL,
		   *signature = NULL;
	long n;

	if (json_unpack((json_t *)(uintptr_t)j, "{s:s}", "mediaType", &type) < 0 ||
		strcmp(type, MEDIA_TYPE) != 0)
		return err_set(err, ERR_USER, "not a Sigstore bundle of version 0.3");
	if (json_unpack((json_t *)(uintptr_t)j, "{s:{s:{s?s}}}", "verificationMaterial",
		    "publicKey", "hint", &hint) < 0)
		return err_set(err, ERR_USER,
			"a signature without a key: only signatures of a local key are verified");
	if (json_unpack((json_t *)(uintptr_t)j, "{s:{s:{s?s, s:s}, s:s}}", "messageSignature",
		    "messageDigest", "algorithm", &algorithm, "digest", &digest, "signature",
		    &signature) < 0 ||
		strcmp(algorithm, "SHA2_256") != 0)
		return err_set(err, ERR_USER, "no message signature with a SHA2_256 digest");
	if (decode(digest, b->digest, sizeof(b->digest)) != BUNDLE_DIGEST)
		return err_set(err, ERR_USER, "messageDigest.digest is not 32 bytes of base64");
	n = decode(signature, b->signature, sizeof(b->signature));
	if (n <= 0)
		return err_set(err, ERR_USER, "messageSignature.signature is not base64");
	b->len = (size_t)n;
	b->has_hint = decode(hint, b->hint, sizeof(b->hint)) == BUNDLE_DIGEST;
	return 0;
}

int bundle_parse(const char *text, size_t len, struct bundle *ret, struct err *err)
{
	struct bundle b = {0};
	json_error_t why;
	json_t *j;
	int result;

	if (len > BUNDLE_MAX)
		return err_set(err, ERR_USER, "larger than %d bytes", BUNDLE_MAX);
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!j)
		return err_set(err, ERR_USER, "not JSON: line %d: %s", why.line, why.text);
	result = fill(j, &b, err);
	json_decref(j);
	if (result == 0)
		*ret = b;
	return result;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Host keys and their signatures. */
#include "ssh/verify.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include "base/mem.h"

#define RSA_BITS_MIN  2048
#define RSA_BYTES_MAX 2049u /* 16384 bits, and a sign byte */
#define E_BYTES_MAX   9u

static const struct curve {
	const char *type, *name, *group;
	size_t point;
	const char *digest;
} curves[] = {
	{"ecdsa-sha2-nistp256", "nistp256", "P-256", 65, "SHA256"},
	{"ecdsa-sha2-nistp384", "nistp384", "P-384", 97, "SHA384"},
	{"ecdsa-sha2-nistp521", "nistp521", "P-521", 133, "SHA512"},
};

const char *ssh_fingerprint(struct ssh_slice key, char to[SSH_FINGERPRINT])
{
	uint8_t hash[33] = {0};
	char digits[48];
	unsigned len = 32;

	EVP_Digest(key.p, key.n, hash, &len, EVP_sha256(), NULL);
	EVP_EncodeBlock((uint8_t *)digits, hash, 32);
	memcpy(to, "SHA256:", 7);
	memcpy(to + 7, digits, 43); /* without the padding */
	to[50] = '\0';
	return to;
}

void ssh_hmac_sha1(const void *key, size_t key_len, const char *text, uint8_t out[20])
{
	unsigned len = 20;

	HMAC(EVP_sha1(), key, (int)key_len, (const uint8_t *)text, strlen(text), out, &len);
}

size_t ssh_decode_base64(const char *text, size_t n, uint8_t *to)
{
	size_t padding = 0;
	int len;

	if (n == 0 || n % 4 || n > SSH_BASE64_MAX)
		return 0;
	while (padding < 2 && text[n - 1 - padding] == '=')
		padding++;
	len = EVP_DecodeBlock(to, (const uint8_t *)text, (int)n);
	return len <= 0 ? 0 : (size_t)len - padding;
}

/* A positive integer of at most @max bytes, in its only form; NULL otherwise. */
static BIGNUM *get_mpint(struct rd *r, size_t max)
{
	struct ssh_slice s = ssh_get_string(r);

	if (s.n == 0 || s.n > max || s.p[0] & 0x80)
		return NULL;
	if (s.p[0] == 0 && (s.n == 1 || !(s.p[1] & 0x80)))
		return NULL;
	return BN_bin2bn(s.p, (int)s.n, NULL);
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *key = NULL;

	if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
		EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
		key = NULL;
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static EVP_PKEY *get_rsa(struct rd *r)
{
	BIGNUM *e = get_mpint(r, E_BYTES_MAX), *n = get_mpint(r, RSA_BYTES_MAX);
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (e && n && build && rd_done(r) && BN_num_bits(n) >= RSA_BITS_MIN &&
		OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
		OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
		params = OSSL_PARAM_BLD_to_param(build);
	if (params)
		key = from_params("RSA", params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	BN_free(e);
	BN_free(n);
	return key;
}

static EVP_PKEY *get_ec(struct rd *r, const struct curve *c)
{
	struct ssh_slice name = ssh_get_string(r), point = ssh_get_string(r);
	OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(
				       OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)c->group, 0),
		OSSL_PARAM_construct_octet_string(
			OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point.p, point.n),
		OSSL_PARAM_construct_end()};

	if (!rd_done(r) || !ssh_slice_is(name, c->name) || point.n != c->point || point.p[0] != 4)
		return NULL;
	return from_params("EC", params);
}

static EVP_PKEY *get_ed25519(struct rd *r)
{
	struct ssh_slice raw = ssh_get_string(r);

	return rd_done(r) && raw.n == 32
		       ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw.p, raw.n)
		       : NULL;
}

static bool check(
	EVP_PKEY *key, const EVP_MD *digest, const uint8_t *sig, size_t len, struct ssh_slice data)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, digest, NULL, key) == 1 &&
		  EVP_DigestVerify(ctx, sig, len, data.p, data.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

/* The two integers of an ECDSA signature, in the form that OpenSSL reads. */
static bool check_ec(
	EVP_PKEY *key, const struct curve *c, struct ssh_slice sig, struct ssh_slice data)
{
	struct rd r = rd_make(sig.p, sig.n);
	BIGNUM *a = get_mpint(&r, c->point / 2 + 1), *b = get_mpint(&r, c->point / 2 + 1);
	ECDSA_SIG *pair = ECDSA_SIG_new();
	uint8_t *der = NULL;
	bool ok = false;
	int len;

	if (a && b && pair && rd_done(&r) && ECDSA_SIG_set0(pair, a, b)) {
		a = b = NULL;
		len = i2d_ECDSA_SIG(pair, &der);
		ok = len > 0 && check(key, EVP_get_digestbyname(c->digest), der, (size_t)len, data);
	}
	OPENSSL_free(der);
	ECDSA_SIG_free(pair);
	BN_free(a);
	BN_free(b);
	return ok;
}

static bool verify(struct ssh_slice type, struct rd key_rest, struct ssh_slice sig_type,
	struct ssh_slice sig, struct ssh_slice data)
{
	const struct curve *curve = NULL;
	EVP_PKEY *key = NULL;
	bool ok = false;

	for (size_t i = 0; i < ARRAY_SIZE(curves); i++)
		if (ssh_slice_is(type, curves[i].type))
			curve = &curves[i];
	if (ssh_slice_is(type, "ssh-ed25519") && ssh_slice_eq(type, sig_type)) {
		key = get_ed25519(&key_rest);
		ok = key && sig.n == 64 && check(key, NULL, sig.p, sig.n, data);
	} else if (curve && ssh_slice_eq(type, sig_type)) {
		key = get_ec(&key_rest, curve);
		ok = key && check_ec(key, curve, sig, data);
	} else if (ssh_slice_is(type, "ssh-rsa") &&
		   (ssh_slice_is(sig_type, "rsa-sha2-256") ||
			   ssh_slice_is(sig_type, "rsa-sha2-512"))) {
		key = get_rsa(&key_rest);
		ok = key &&
		     check(key,
			     ssh_slice_is(sig_type, "rsa-sha2-256") ? EVP_sha256() : EVP_sha512(),
			     sig.p, sig.n, data);
	}
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok;
}

bool ssh_verify(struct ssh_slice key, struct ssh_slice signature, struct ssh_slice data)
{
	struct rd k = rd_make(key.p, key.n), s = rd_make(signature.p, signature.n);
	struct ssh_slice type = ssh_get_string(&k), sig_type = ssh_get_string(&s);
	struct ssh_slice sig = ssh_get_string(&s);

	return rd_ok(&k) && rd_done(&s) && verify(type, k, sig_type, sig, data);
}

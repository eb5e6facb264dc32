/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-sign: signatures of kits. What is signed comes on standard input.
 *
 *	hutch-sign sign bundle|plain	descriptor 3: private key (PEM), 4: an empty file
 *	hutch-sign verify bundle|plain	descriptor 3: signature, 4 and on: public keys (PEM)
 *
 * "plain" is the bare signature: 64 bytes of Ed25519, or ECDSA with SHA-256 in DER. "bundle" is the
 * same in a Sigstore bundle. verify prints the place of the key that fits, from 0, and fails
 * when none does; the reason of a failure is one line on stderr.
 *
 * A program of its own so that a private key is never in a process that has a network, and that
 * hutch links no cryptographic library. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/jail.h"
#include "base/mem.h"
#include "base/probe.h"
#include "sign/bundle.h"
#include "sign/filters.h"

/* syscalls(sign): +libc +fd openat newfstatat fstat lseek ioctl sysinfo uname getuid geteuid getgid
 *	getegid sched_getaffinity prlimit64 +attack */

enum { FD_KEY = 3, FD_OUT = 4, FD_SIGNATURE = 3, FD_KEYS = 4 };

#define MESSAGE_MAX (16u << 20)
#define KEYS_MAX    16
#define KEY_BYTES   16384

static int jail(struct err *err)
{
	unsigned missing = 0;

	jail_limit(RLIMIT_CORE, 0);
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	if (jail_enter(JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT | JAIL_CAPS | JAIL_NEWPRIVS,
		    &missing, err) < 0)
		return -1;
	if (jail_seal(&(struct jail_seal){.more = LANDLOCK_NO_TCP | LANDLOCK_ALONE,
			      .filter = &filter_sign},
		    &missing, err) < 0)
		return -1;
	jail_probe("sign");
	return 0;
}

static int read_all(int fd, const char *what, struct buf *b, struct err *err)
{
	ssize_t n;

	while ((n = buf_read(b, fd, 65536)) > 0)
		;
	if (n < 0)
		return buf_room(b) ? err_errno(err, "%s", what)
				   : err_set(err, ERR_USER, "%s: too large", what);
	return 0;
}

/* A key that asks for a passphrase gets none. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
	return -1;
}

static EVP_PKEY *read_key(int fd, bool private, struct err *err)
{
	struct buf text;
	EVP_PKEY *key = NULL;
	BIO *bio;

	buf_init(&text, KEY_BYTES);
	if (read_all(fd, "key", &text, err) == 0 && buf_len(&text)) {
		bio = BIO_new_mem_buf(buf_head(&text), (int)buf_len(&text));
		key = private ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL)
			      : PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
		BIO_free(bio);
	}
	buf_wipe(&text);
	if (!key) {
		err_set(err, ERR_USER, "not %s key in PEM%s", private ? "a private" : "a public",
			private ? " without a passphrase" : "");
		return NULL;
	}
	if (EVP_PKEY_base_id(key) == EVP_PKEY_ED25519 ||
		(EVP_PKEY_base_id(key) == EVP_PKEY_EC && EVP_PKEY_bits(key) == 256))
		return key;
	EVP_PKEY_free(key);
	err_set(err, ERR_USER, "a key of another kind, expected Ed25519 or ECDSA P-256");
	return NULL;
}

static const EVP_MD *digest_of(const EVP_PKEY *key)
{
	return EVP_PKEY_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

static void key_hint(EVP_PKEY *key, uint8_t to[static BUNDLE_DIGEST])
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key, &der);

	EVP_Digest(der, len > 0 ? (size_t)len : 0, to, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
}

static int run_sign(bool bundle, const struct buf *message, struct err *err)
{
	EVP_PKEY *key = read_key(FD_KEY, true, err);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct bundle b = {.len = sizeof(b.signature)};
	_free_ char *text = NULL;
	int result = -1;

	if (!key) {
		EVP_MD_CTX_free(ctx);
		return -1;
	}
	EVP_Digest(buf_head(message), buf_len(message), b.digest, NULL, EVP_sha256(), NULL);
	key_hint(key, b.hint);
	if (EVP_DigestSignInit(ctx, NULL, digest_of(key), NULL, key) != 1 ||
		EVP_DigestSign(ctx, b.signature, &b.len, buf_head(message), buf_len(message)) != 1)
		err_set(err, ERR_ENV, "the key cannot sign");
	else if (!bundle)
		result = fd_write_all(FD_OUT, b.signature, b.len);
	else if ((text = bundle_text(&b)) != NULL)
		result = fd_write_all(FD_OUT, text, strlen(text));
	if (result < 0 && b.len && (text || !bundle))
		err_errno(err, "write");
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return result;
}

static int read_signature(
	bool bundle, const struct buf *message, struct bundle *ret, struct err *err)
{
	_buf_ struct buf text = {.max = BUNDLE_MAX};
	uint8_t digest[BUNDLE_DIGEST];

	if (read_all(FD_SIGNATURE, "signature", &text, err) < 0)
		return -1;
	if (!bundle) {
		*ret = (struct bundle){.len = MIN(buf_len(&text), sizeof(ret->signature))};
		if (buf_len(&text) == 0 || buf_len(&text) > sizeof(ret->signature))
			return err_set(err, ERR_USER, "the signature has a wrong size");
		memcpy(ret->signature, buf_head(&text), ret->len);
		return 0;
	}
	if (bundle_parse(buf_cstr(&text), buf_len(&text), ret, err) < 0)
		return err_wrap(err, "bundle");
	EVP_Digest(buf_head(message), buf_len(message), digest, NULL, EVP_sha256(), NULL);
	if (memcmp(digest, ret->digest, sizeof(digest)) != 0)
		return err_set(err, ERR_USER, "changed since it was signed");
	return 0;
}

static bool fits(EVP_PKEY *key, const struct bundle *b, const struct buf *message)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = EVP_DigestVerifyInit(ctx, NULL, digest_of(key), NULL, key) == 1 &&
		  EVP_DigestVerify(
			  ctx, b->signature, b->len, buf_head(message), buf_len(message)) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

static int run_verify(bool bundle, const struct buf *message, struct err *err)
{
	struct bundle b;

	if (read_signature(bundle, message, &b, err) < 0)
		return -1;
	for (int i = 0; i < KEYS_MAX && fcntl(FD_KEYS + i, F_GETFD) >= 0; i++) {
		EVP_PKEY *key = read_key(FD_KEYS + i, false, err);
		bool ok = key && fits(key, &b, message);

		EVP_PKEY_free(key);
		if (!key)
			return err_wrap(err, "trusted key %d", i + 1);
		if (ok) {
			printf("%d\n", i);
			return 0;
		}
	}
	return err_set(err, ERR_USER, "changed since it was signed, or signed by another key");
}

static int run(const char *verb, const char *form, struct err *err)
{
	bool bundle = strcmp(form, "bundle") == 0;
	_buf_ struct buf message = {.max = MESSAGE_MAX};

	if (jail(err) < 0 || read_all(STDIN_FILENO, "input", &message, err) < 0)
		return -1;
	buf_cstr(&message); /* never NULL */
	if (strcmp(verb, "sign") == 0)
		return run_sign(bundle, &message, err);
	return run_verify(bundle, &message, err);
}

int main(int argc, char **argv)
{
	struct err err = {.msg = "hutch-sign is started by hutch"};

	if (argc == 3 && run(argv[1], argv[2], &err) == 0)
		return fflush(stdout) == 0 ? 0 : 1;
	fprintf(stderr, "%s\n", err.msg);
	return 1;
}

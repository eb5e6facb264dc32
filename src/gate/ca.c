/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's own certificate authority.
 *
 * ECDSA P-256 throughout. The authority lives ten years in ca.key (0600) and ca.pem. Leaves live a
 * week, share one key that exists only in this process, and are kept in a small cache: a guest that
 * asks for ever new names only makes us sign again. */
#include "gate/ca.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

#define CA_KEY        "ca.key"
#define CA_CERT       "ca.pem"
#define CA_DAYS       3650L
#define CA_RENEW_DAYS 30
#define LEAF_DAYS     7L
#define LEAF_KEEP_S   86400
#define LEAF_CACHE    128u
#define DAY_S         86400L
#define PEM_FILE_MAX  65536u

struct leaf {
	char name[256];
	X509 *cert; /* owned; NULL: empty slot */
	time_t made;
};

struct ca {
	X509 *cert;         /* owned */
	EVP_PKEY *key;      /* owned */
	EVP_PKEY *leaf_key; /* owned */
	char *pem;          /* owned */
	struct leaf cache[LEAF_CACHE];
	unsigned next; /* slot to replace */
};

static int ssl_err(struct err *err, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	char text[200];

	ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return err_set(err, ERR_ENV, "%s: %s", what, text);
}

static int add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	int ok;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		return -1;
	ok = X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok ? 0 : -1;
}

static int set_serial(X509 *cert)
{
	unsigned char raw[16];
	BIGNUM *n = NULL;
	int ok;

	if (RAND_bytes(raw, sizeof(raw)) != 1)
		return -1;
	raw[0] = (raw[0] & 0x7f) | 0x40; /* positive and of full length */
	n = BN_bin2bn(raw, sizeof(raw), NULL);
	ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
	BN_free(n);
	return ok ? 0 : -1;
}

static int set_common_name(X509_NAME *name, const char *cn)
{
	return X509_NAME_add_entry_by_txt(
		       name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0)
		       ? 0
		       : -1;
}

/* What both kinds of certificate have. Valid from yesterday: guests' clocks may lag. */
static X509 *new_cert(EVP_PKEY *public, long days)
{
	X509 *cert = X509_new();

	if (cert && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) == 0 &&
		X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_S) &&
		X509_gmtime_adj(X509_getm_notAfter(cert), days * DAY_S) &&
		X509_set_pubkey(cert, public))
		return cert;
	X509_free(cert);
	return NULL;
}

static X509 *make_authority(EVP_PKEY *key, const char *box)
{
	X509 *cert = new_cert(key, CA_DAYS);
	char cn[65];

	/* A common name has at most 64 characters. */
	snprintf(cn, sizeof(cn), "Hutch sandbox %.50s", box);
	if (cert && set_common_name(X509_get_subject_name(cert), cn) == 0 &&
		X509_set_issuer_name(cert, X509_get_subject_name(cert)) &&
		add_ext(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") == 0 &&
		add_ext(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") == 0 &&
		add_ext(cert, cert, NID_subject_key_identifier, "hash") == 0 &&
		X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static X509 *make_leaf(struct ca *ca, const char *name)
{
	X509 *cert = new_cert(ca->leaf_key, LEAF_DAYS);
	struct in_addr ip;
	char san[300];

	snprintf(
		san, sizeof(san), "%s:%s", inet_pton(AF_INET, name, &ip) == 1 ? "IP" : "DNS", name);
	if (cert &&
		(strlen(name) > 64 || set_common_name(X509_get_subject_name(cert), name) == 0) &&
		X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) &&
		add_ext(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") == 0 &&
		add_ext(cert, ca->cert, NID_key_usage, "critical,digitalSignature") == 0 &&
		add_ext(cert, ca->cert, NID_ext_key_usage, "serverAuth") == 0 &&
		add_ext(cert, ca->cert, NID_subject_alt_name, san) == 0 &&
		add_ext(cert, ca->cert, NID_subject_key_identifier, "hash") == 0 &&
		add_ext(cert, ca->cert, NID_authority_key_identifier, "keyid:always") == 0 &&
		X509_sign(cert, ca->key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

/* Without a subject the alternative name would have to be critical; names longer than 64 are rare
 * and every client we know accepts them. Only characters of host names get into the extension's
 * textual form, where ',' or ':' would mean something. */
static bool name_fits_certificate(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

	return n > 0 && n < 254 && name[n] == '\0';
}

static EVP_PKEY *load_key(int dirfd)
{
	struct buf b;
	EVP_PKEY *key = NULL;

	buf_init(&b, PEM_FILE_MAX);
	if (fs_read_file(dirfd, CA_KEY, &b, NULL) == 0) {
		BIO *bio = BIO_new_mem_buf(buf_head(&b), (int)buf_len(&b));

		key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
		BIO_free(bio);
	}
	buf_wipe(&b);
	return key;
}

static X509 *load_cert(int dirfd)
{
	_buf_ struct buf b;
	X509 *cert = NULL;

	buf_init(&b, PEM_FILE_MAX);
	if (fs_read_file(dirfd, CA_CERT, &b, NULL) == 0) {
		BIO *bio = BIO_new_mem_buf(buf_head(&b), (int)buf_len(&b));

		cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
		BIO_free(bio);
	}
	return cert;
}

static bool load(struct ca *ca, int dirfd)
{
	time_t soon = time(NULL) + CA_RENEW_DAYS * DAY_S;

	ca->key = load_key(dirfd);
	ca->cert = load_cert(dirfd);
	if (ca->key && ca->cert && X509_check_private_key(ca->cert, ca->key) == 1 &&
		X509_cmp_time(X509_get0_notAfter(ca->cert), &soon) > 0)
		return true;
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	ca->key = NULL;
	ca->cert = NULL;
	ERR_clear_error();
	return false;
}

static int save_bio(int dirfd, const char *name, BIO *bio, mode_t mode, struct err *err)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	return fs_write_file(dirfd, name, data, (size_t)len, mode, err);
}

static int make(struct ca *ca, int dirfd, const char *box, struct err *err)
{
	BIO *key = BIO_new(BIO_s_secmem()), *cert = BIO_new(BIO_s_mem());
	int result = -1;

	ca->key = EVP_EC_gen("P-256");
	ca->cert = ca->key ? make_authority(ca->key, box) : NULL;
	if (!key || !cert || !ca->cert ||
		!PEM_write_bio_PrivateKey(key, ca->key, NULL, NULL, 0, NULL, NULL) ||
		!PEM_write_bio_X509(cert, ca->cert))
		ssl_err(err, "make a certificate authority");
	/* The key first: a certificate without its key is made anew, and so is the reverse. */
	else if (save_bio(dirfd, CA_KEY, key, 0600, err) == 0 &&
		 save_bio(dirfd, CA_CERT, cert, 0644, err) == 0)
		result = 0;
	BIO_free(key);
	BIO_free(cert);
	return result;
}

static char *cert_pem(X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *pem = NULL;

	if (bio && PEM_write_bio_X509(bio, cert)) {
		long len = BIO_get_mem_data(bio, &data);

		pem = xstrndup(data, (size_t)len);
	}
	BIO_free(bio);
	return pem;
}

struct ca *ca_open(int dirfd, const char *box, struct err *err)
{
	struct ca *ca = xcalloc(1, sizeof(*ca));

	if (!load(ca, dirfd) && make(ca, dirfd, box, err) < 0) {
		ca_free(ca);
		return NULL;
	}
	ca->leaf_key = EVP_EC_gen("P-256");
	ca->pem = cert_pem(ca->cert);
	if (!ca->leaf_key || !ca->pem) {
		ssl_err(err, "certificate authority");
		ca_free(ca);
		return NULL;
	}
	return ca;
}

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	for (size_t i = 0; i < LEAF_CACHE; i++)
		X509_free(ca->cache[i].cert);
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	EVP_PKEY_free(ca->leaf_key);
	free(ca->pem);
	free(ca);
}

const char *ca_pem(const struct ca *ca)
{
	return ca->pem;
}

static struct leaf *cached(struct ca *ca, const char *name, time_t now)
{
	for (size_t i = 0; i < LEAF_CACHE; i++) {
		struct leaf *l = &ca->cache[i];

		if (l->cert && strcmp(l->name, name) == 0 && now - l->made < LEAF_KEEP_S)
			return l;
	}
	return NULL;
}

int ca_leaf(struct ca *ca, const char *name, X509 **ret_cert, EVP_PKEY **ret_key, struct err *err)
{
	time_t now = time(NULL);
	struct leaf *l;

	if (!name_fits_certificate(name))
		return err_set(err, ERR_PEER, "no certificate for this name");
	l = cached(ca, name, now);
	if (!l) {
		X509 *cert = make_leaf(ca, name);

		if (!cert)
			return ssl_err(err, "make a certificate");
		l = &ca->cache[ca->next++ % LEAF_CACHE];
		X509_free(l->cert);
		l->cert = cert;
		l->made = now;
		snprintf(l->name, sizeof(l->name), "%s", name);
	}
	*ret_cert = l->cert;
	*ret_key = ca->leaf_key;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as a filter between buffers. */
#include "gate/tls.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "gate/tls_sessions.h"
#include "policy/name.h"

#define TLS_STEP 16384u /* bytes moved at once: one record */
/* Ciphertext that may wait inside OpenSSL, so that a peer cannot make it grow: on its way in, and
 * on its way out before more is taken in. What comes in may be answered at once, with an alert for
 * each attempt to renegotiate. */
#define TLS_INSIDE_MAX 32768

struct tls_shared {
	SSL_CTX *server; /* owned */
	SSL_CTX *client; /* owned; made at first use: loading the trust store takes a while */
	struct tls_sessions *sessions;
};

struct tls {
	SSL *ssl;           /* owned, with both BIOs */
	BIO *from, *to;     /* borrowed from ssl: ciphertext in, ciphertext out */
	enum tls_alpn alpn; /* server: to be chosen; client: chosen, when ready */
	bool client, ready, ended, ending, failed;
	bool dry; /* OpenSSL has said that it waits for more ciphertext, and got none since */
	/* client: whose session it is */
	struct tls_sessions *sessions;
	uint16_t port;
	char name[POLICY_NAME_MAX + 1];
};

/* As in the handshake: each name behind its length. */
static const unsigned char names_both[] = "\x02h2\x08http/1.1", names_h2[] = "\x02h2",
			   names_http11[] = "\x08http/1.1";

struct alpn_names {
	const unsigned char *p;
	unsigned len;
};

static struct alpn_names offer_names(unsigned offer)
{
	if (offer == TLS_OFFER_H2)
		return (struct alpn_names){names_h2, sizeof(names_h2) - 1};
	if (offer & TLS_OFFER_H2)
		return (struct alpn_names){names_both, sizeof(names_both) - 1};
	return (struct alpn_names){names_http11, sizeof(names_http11) - 1};
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
	const unsigned char *in, unsigned inlen, void *arg)
{
	const struct tls *t = SSL_get_app_data(ssl);
	struct alpn_names want = offer_names(t->alpn == TLS_ALPN_H2 ? TLS_OFFER_H2 : 0);
	unsigned char *chosen = NULL;

	if (t->alpn == TLS_ALPN_NONE)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_select_next_proto(&chosen, outlen, want.p, want.len, in, inlen) !=
		OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int fail(struct err *err, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *why = code ? ERR_reason_error_string(code) : NULL;

	err_set(err, ERR_PEER, "%s: %s", what, why ? why : "unexpected end");
	ERR_clear_error();
	return -1;
}

static SSL_CTX *new_ctx(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (!ctx)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_timeout(ctx, TLS_SESSION_S);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	return ctx;
}

struct tls_shared *tls_shared_new(struct err *err)
{
	struct tls_shared *s = xcalloc(1, sizeof(*s));

	s->server = new_ctx(TLS_server_method());
	if (!s->server) {
		fail(err, "TLS");
		free(s);
		return NULL;
	}
	/* The ticket holds the session, sealed with a key that ends with the process. */
	SSL_CTX_set_num_tickets(s->server, 1);
	s->sessions = tls_sessions_new();
	SSL_CTX_set_alpn_select_cb(s->server, choose_alpn, NULL);
	return s;
}

void tls_shared_free(struct tls_shared *s)
{
	if (!s)
		return;
	SSL_CTX_free(s->server);
	SSL_CTX_free(s->client);
	tls_sessions_free(s->sessions);
	free(s);
}

void tls_shared_forget(struct tls_shared *s)
{
	tls_sessions_clear(s->sessions);
}

/* Returns whether it takes @session. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	const struct tls *t = SSL_get_app_data(ssl);

	if (!t || !t->client || !t->sessions || SSL_get_verify_result(ssl) != X509_V_OK ||
		!SSL_SESSION_is_resumable(session))
		return 0;
	tls_sessions_put(t->sessions, t->name, t->port, session);
	return 1;
}

static int load_client(struct tls_shared *s, struct err *err)
{
	SSL_CTX *ctx = new_ctx(TLS_client_method());

	if (!ctx || SSL_CTX_set_default_verify_paths(ctx) != 1) {
		SSL_CTX_free(ctx);
		return fail(err, "TLS trust store");
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	ERR_clear_error();
	s->client = ctx;
	return 0;
}

static struct tls *new_tls(SSL_CTX *ctx, struct err *err)
{
	struct tls *t = xcalloc(1, sizeof(*t));

	t->ssl = SSL_new(ctx);
	t->from = BIO_new(BIO_s_mem());
	t->to = BIO_new(BIO_s_mem());
	if (!t->ssl || !t->from || !t->to) {
		BIO_free(t->from);
		BIO_free(t->to);
		SSL_free(t->ssl);
		free(t);
		fail(err, "TLS");
		return NULL;
	}
	/* An empty BIO means "later", not end of file. */
	BIO_set_mem_eof_return(t->from, -1);
	SSL_set_bio(t->ssl, t->from, t->to);
	SSL_set_app_data(t->ssl, t);
	return t;
}

/* A ticket of one name is none for another. */
static int bind_sessions(SSL *ssl, const char *name)
{
	unsigned char id[EVP_MAX_MD_SIZE];
	unsigned len;

	if (EVP_Digest(name, strlen(name), id, &len, EVP_sha256(), NULL) != 1)
		return -1;
	return SSL_set_session_id_context(ssl, id, len) == 1 ? 0 : -1;
}

struct tls *tls_server_new(
	struct tls_shared *s, struct ca *ca, const char *name, enum tls_alpn alpn, struct err *err)
{
	EVP_PKEY *key;
	struct tls *t;
	X509 *cert;

	if (ca_leaf(ca, name, &cert, &key, err) < 0)
		return NULL;
	t = new_tls(s->server, err);
	if (!t)
		return NULL;
	if (SSL_use_certificate(t->ssl, cert) != 1 || SSL_use_PrivateKey(t->ssl, key) != 1 ||
		bind_sessions(t->ssl, name) < 0) {
		fail(err, "TLS certificate");
		tls_free(t);
		return NULL;
	}
	t->alpn = alpn;
	SSL_set_accept_state(t->ssl);
	return t;
}

struct tls_trust {
	X509_STORE *store; /* owned; the host's certificates are in it, too */
};

static int add_certificates(X509_STORE *store, const char *pem, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *cert;
	int n = 0;

	while (bio && n >= 0 && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		n = X509_STORE_add_cert(store, cert) == 1 ? n + 1 : -1;
		X509_free(cert);
	}
	BIO_free(bio);
	ERR_clear_error();
	return n > 0 ? 0 : err_set(err, ERR_USER, "no certificate can be read");
}

struct tls_trust *tls_trust_new(const char *pem, struct err *err)
{
	struct tls_trust *t = xcalloc(1, sizeof(*t));

	t->store = X509_STORE_new();
	if (t->store && X509_STORE_set_default_paths(t->store) == 1 &&
		add_certificates(t->store, pem, err) == 0)
		return t;
	if (!t->store)
		fail(err, "TLS trust store");
	tls_trust_free(t);
	return NULL;
}

void tls_trust_free(struct tls_trust *t)
{
	if (!t)
		return;
	X509_STORE_free(t->store);
	free(t);
}

static int expect_peer(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	struct in_addr ip;

	X509_VERIFY_PARAM_set_hostflags(
		param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (inet_pton(AF_INET, name, &ip) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1 ? 0 : -1;
	if (X509_VERIFY_PARAM_set1_host(param, name, 0) != 1)
		return -1;
	return SSL_set_tlsext_host_name(ssl, name) == 1 ? 0 : -1;
}

static void resume(struct tls *t)
{
	SSL_SESSION *session =
		t->sessions ? tls_sessions_take(t->sessions, t->name, t->port) : NULL;

	if (!session)
		return;
	SSL_set_session(t->ssl, session);
	SSL_SESSION_free(session);
}

/* A key with a passphrase cannot be used: nobody is there to ask. */
static int no_passphrase(char *buf, int size, int for_writing, void *arg)
{
	return -1;
}

static int use_certificate(SSL *ssl, struct secret *pem, struct err *err)
{
	BIO *certs = BIO_new_mem_buf(secret_bytes(pem), (int)secret_len(pem));
	BIO *keys = BIO_new_mem_buf(secret_bytes(pem), (int)secret_len(pem));
	X509 *cert = PEM_read_bio_X509(certs, NULL, no_passphrase, NULL);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(keys, NULL, no_passphrase, NULL);
	bool fine = cert && key && SSL_use_certificate(ssl, cert) == 1 &&
		    SSL_use_PrivateKey(ssl, key) == 1 && SSL_check_private_key(ssl) == 1;

	X509_free(cert);
	while (fine && (cert = PEM_read_bio_X509(certs, NULL, no_passphrase, NULL))) {
		fine = SSL_add1_chain_cert(ssl, cert) == 1;
		X509_free(cert);
	}
	EVP_PKEY_free(key);
	BIO_free(certs);
	BIO_free(keys);
	ERR_clear_error();
	if (fine)
		return 0;
	return err_set(err, ERR_ENV,
		"the stored client certificate is not a PEM certificate followed by its key "
		"without a passphrase");
}

struct tls *tls_client_new(struct tls_shared *s, const char *name, uint16_t port, unsigned offer,
	const struct tls_trust *trust, struct secret *certificate, struct err *err)
{
	struct alpn_names names = offer_names(offer);
	struct tls *t;

	if (!s->client && load_client(s, err) < 0)
		return NULL;
	t = new_tls(s->client, err);
	if (!t)
		return NULL;
	if (expect_peer(t->ssl, name) < 0 || SSL_set_alpn_protos(t->ssl, names.p, names.len) != 0 ||
		(trust && SSL_set1_verify_cert_store(t->ssl, trust->store) != 1)) {
		fail(err, "TLS");
		tls_free(t);
		return NULL;
	}
	if (certificate && use_certificate(t->ssl, certificate, err) < 0) {
		tls_free(t);
		return NULL;
	}
	t->client = true;
	t->sessions = certificate ? NULL : s->sessions;
	t->port = port;
	snprintf(t->name, sizeof(t->name), "%s", name);
	resume(t);
	SSL_set_connect_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	/* Otherwise OpenSSL spoils the session: it has seen no end of the connection. */
	if (t->ready && !t->failed)
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(t->ssl);
	free(t);
}

/* Whether the last call only waits for the peer. A fatal error is described in @err. */
static bool waiting(struct tls *t, int result, const char *what, struct err *err)
{
	long verify = SSL_get_verify_result(t->ssl);
	int code = SSL_get_error(t->ssl, result);

	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return true;
	if (code == SSL_ERROR_ZERO_RETURN) {
		t->ended = true;
		return true;
	}
	t->failed = true;
	if (t->client && !t->ready && verify != X509_V_OK)
		err_set(err, ERR_PEER, "the server's certificate is not valid: %s",
			X509_verify_cert_error_string(verify));
	else
		fail(err, what);
	return false;
}

static void feed(struct tls *t, struct buf *net_in)
{
	while (buf_len(net_in) > 0 && BIO_pending(t->from) < TLS_INSIDE_MAX &&
		BIO_pending(t->to) < TLS_INSIDE_MAX) {
		int n = BIO_write(t->from, buf_head(net_in), (int)MIN(buf_len(net_in), TLS_STEP));

		if (n <= 0)
			break;
		buf_consume(net_in, (size_t)n);
		t->dry = false;
	}
}

static void drain(struct tls *t, struct buf *net_out)
{
	while (BIO_pending(t->to) > 0 && buf_room(net_out) > 0) {
		size_t n = MIN((size_t)BIO_pending(t->to), buf_room(net_out));
		uint8_t *to = buf_reserve(net_out, n);
		int got = BIO_read(t->to, to, (int)n);

		if (got <= 0)
			break;
		buf_commit(net_out, (size_t)got);
	}
}

static enum tls_alpn chosen_alpn(const SSL *ssl)
{
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(ssl, &name, &len);
	if (len == 2 && memcmp(name, "h2", 2) == 0)
		return TLS_ALPN_H2;
	return len > 0 ? TLS_ALPN_HTTP11 : TLS_ALPN_NONE;
}

/* In TLS 1.2 a session that was taken up has no successor. */
static void keep_session(struct tls *t)
{
	if (t->sessions && SSL_session_reused(t->ssl) && SSL_version(t->ssl) < TLS1_3_VERSION)
		tls_sessions_put(t->sessions, t->name, t->port, SSL_get1_session(t->ssl));
}

static int shake_hands(struct tls *t, struct err *err)
{
	int r;

	if (t->ready)
		return 0;
	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	if (r == 1) {
		/* Belt and braces: SSL_VERIFY_PEER has already ended a bad handshake. */
		if (t->client && SSL_get_verify_result(t->ssl) != X509_V_OK) {
			t->failed = true;
			return err_set(err, ERR_PEER, "the server's certificate is not valid");
		}
		t->ready = true;
		if (t->client) {
			t->alpn = chosen_alpn(t->ssl);
			keep_session(t);
		}
		return 0;
	}
	return waiting(t, r, "TLS handshake", err) ? 0 : -1;
}

static int read_plain(struct tls *t, struct buf *in, struct err *err)
{
	while (t->ready && !t->ended && !t->dry && buf_room(in) > 0) {
		size_t n = MIN(buf_room(in), (size_t)TLS_STEP);
		uint8_t *to = buf_reserve(in, n);
		int got;

		ERR_clear_error();
		got = SSL_read(t->ssl, to, (int)n);
		if (got <= 0) {
			t->dry = SSL_get_error(t->ssl, got) == SSL_ERROR_WANT_READ;
			return waiting(t, got, "TLS", err) ? 0 : -1;
		}
		buf_commit(in, (size_t)got);
	}
	return 0;
}

static int write_plain(struct tls *t, struct buf *out, struct buf *net_out, struct err *err)
{
	while (t->ready && !t->ending && buf_len(out) > 0 && buf_room(net_out) >= 2 * TLS_STEP) {
		int put;

		ERR_clear_error();
		put = SSL_write(t->ssl, buf_head(out), (int)MIN(buf_len(out), (size_t)TLS_STEP));
		if (put <= 0)
			return waiting(t, put, "TLS", err) ? 0 : -1;
		buf_consume(out, (size_t)put);
		drain(t, net_out);
	}
	return 0;
}

int tls_pump(struct tls *t, struct buf *net_in, struct buf *in, struct buf *out,
	struct buf *net_out, struct err *err)
{
	int result = 0;

	if (t->failed) {
		drain(t, net_out);
		return err_set(err, ERR_PEER, "TLS connection has failed");
	}
	feed(t, net_in);
	if (shake_hands(t, err) < 0 || read_plain(t, in, err) < 0 ||
		write_plain(t, out, net_out, err) < 0)
		result = -1;
	drain(t, net_out);
	return result;
}

bool tls_ready(const struct tls *t)
{
	return t->ready;
}

enum tls_alpn tls_alpn(const struct tls *t)
{
	return t->alpn;
}

bool tls_ended(const struct tls *t)
{
	return t->ended;
}

void tls_end(struct tls *t)
{
	if (t->ending || t->failed || !t->ready)
		return;
	t->ending = true;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}

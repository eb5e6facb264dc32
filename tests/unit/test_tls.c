/* SPDX-License-Identifier: Apache-2.0 */
/* TLS towards servers, against one that is hostile: OpenSSL with what the gate never does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <fcntl.h>
#include <openssl/ssl.h>

#include "base/fd.h"
#include "base/mem.h"
#include "gate/tls.h"

#define NAME "www.example.test"
#define ROOM 131072u /* as in stream.c */

/* The gate's end and the server's. */
struct world {
	struct ca *ca;
	struct tls_shared *shared;
	struct tls_trust *trust;
	struct tls *gate;
	struct buf net_in, in, out, net_out; /* the gate's */
	SSL_CTX *ctx;
	SSL *server;
	BIO *from, *to; /* the server's */
	char dir[64];
};

static void start(struct world *w)
{
	_close_ int dir = -1;
	EVP_PKEY *key;
	struct err err;
	X509 *cert;

	*w = (struct world){.dir = "/tmp/hutch-test-tls-XXXXXX"};
	assert_non_null(mkdtemp(w->dir));
	dir = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->ca = ca_open(dir, "box", &err);
	w->shared = tls_shared_new(&err);
	w->trust = tls_trust_new(ca_pem(w->ca), &err);
	w->gate = tls_client_new(w->shared, NAME, 443, TLS_OFFER_HTTP11, w->trust, NULL, &err);
	assert_non_null(w->gate);
	buf_init(&w->net_in, ROOM);
	buf_init(&w->in, ROOM);
	buf_init(&w->out, ROOM);
	buf_init(&w->net_out, ROOM);
	assert_int_equal(ca_leaf(w->ca, NAME, &cert, &key, &err), 0);
	w->ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_max_proto_version(w->ctx, TLS1_2_VERSION);
	w->server = SSL_new(w->ctx);
	assert_int_equal(SSL_use_certificate(w->server, cert), 1);
	assert_int_equal(SSL_use_PrivateKey(w->server, key), 1);
	w->from = BIO_new(BIO_s_mem());
	w->to = BIO_new(BIO_s_mem());
	SSL_set_bio(w->server, w->from, w->to);
	SSL_set_accept_state(w->server);
}

static void end(struct world *w)
{
	_close_ int dir = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	tls_free(w->gate);
	tls_trust_free(w->trust);
	tls_shared_free(w->shared);
	ca_free(w->ca);
	SSL_free(w->server);
	SSL_CTX_free(w->ctx);
	buf_done(&w->net_in);
	buf_done(&w->in);
	buf_done(&w->out);
	buf_done(&w->net_out);
	unlinkat(dir, "ca.key", 0);
	unlinkat(dir, "ca.pem", 0);
	rmdir(w->dir);
}

/* What the server has to say, as far as there is room for it. */
static void listen_to(struct world *w)
{
	while (BIO_pending(w->to) > 0 && buf_room(&w->net_in) > 0) {
		size_t n = MIN((size_t)BIO_pending(w->to), buf_room(&w->net_in));

		buf_commit(&w->net_in, (size_t)BIO_read(w->to, buf_reserve(&w->net_in, n), (int)n));
	}
}

static int pump(struct world *w)
{
	struct err err;

	return tls_pump(w->gate, &w->net_in, &w->in, &w->out, &w->net_out, &err);
}

static void shake_hands(struct world *w)
{
	for (int i = 0; i < 10 && !(tls_ready(w->gate) && SSL_is_init_finished(w->server)); i++) {
		assert_int_equal(pump(w), 0);
		BIO_write(w->from, buf_head(&w->net_out), (int)buf_len(&w->net_out));
		buf_consume(&w->net_out, buf_len(&w->net_out));
		SSL_do_handshake(w->server);
		listen_to(w);
	}
	assert_true(tls_ready(w->gate));
}

/* Each question for a new handshake is answered with an alert. A server that reads none of them is
 * not read any further; otherwise they would pile up. */
static void test_answers_that_nobody_takes_are_few(void **state)
{
	const size_t asked_max = 4u << 20;
	size_t asked = 0, taken = 0;
	struct world w;

	start(&w);
	shake_hands(&w);
	while (asked < asked_max) {
		size_t before;

		assert_int_equal(SSL_renegotiate(w.server), 1);
		assert_int_equal(SSL_do_handshake(w.server), 1);
		before = buf_len(&w.net_in);
		listen_to(&w);
		asked += buf_len(&w.net_in) - before;
		before = buf_len(&w.net_in);
		assert_int_equal(pump(&w), 0);
		taken += before - buf_len(&w.net_in);
		if (buf_room(&w.net_in) == 0)
			break;
	}
	assert_true(buf_len(&w.net_out) > ROOM / 2);
	assert_true(taken < 2u << 20);
	/* It reads: all goes on. */
	for (int i = 0; i < 100 && buf_len(&w.net_in) > 0; i++) {
		buf_consume(&w.net_out, buf_len(&w.net_out));
		assert_int_equal(pump(&w), 0);
	}
	assert_int_equal(buf_len(&w.net_in), 0);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_that_nobody_takes_are_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as a filter between buffers: ciphertext on one side, plaintext on the other. No I/O.
 *
 * Only the files tls*.c and ca.c call OpenSSL. TLS 1.2 is the oldest version; no renegotiation, no
 * early data. Sessions are resumed: by the guest for one name, and with servers (tls_sessions.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/ca.h"
#include "secret/secret.h"

struct tls_shared; /* what all connections have in common */
struct tls;
struct tls_trust;

struct tls_shared *tls_shared_new(struct err *err);
void tls_shared_free(struct tls_shared *s);
/* Who is who may have changed: take up no session again. */
void tls_shared_forget(struct tls_shared *s);

/* Certificates that are believed besides the host's trust store: PEM text. NULL with @err. */
struct tls_trust *tls_trust_new(const char *pem, struct err *err);
void tls_trust_free(struct tls_trust *t); /* NULL is fine */

/* What ALPN has chosen. */
enum tls_alpn { TLS_ALPN_NONE, TLS_ALPN_HTTP11, TLS_ALPN_H2 };
#define TLS_OFFER_HTTP11 1u
#define TLS_OFFER_H2     2u

/* Towards the guest: a server that proves to be @name with a certificate of @ca. Of what the guest
 * offers it takes @alpn; TLS_ALPN_NONE: nothing. */
struct tls *tls_server_new(
	struct tls_shared *s, struct ca *ca, const char *name, enum tls_alpn alpn, struct err *err);
/* Towards the world: a client that insists on a valid certificate for @name (host name or IPv4
 * address), judged by the host's trust store (SSL_CERT_FILE and SSL_CERT_DIR are honoured), and by
 * @trust, which may be NULL. @certificate: PEM of a certificate, those that lead to its authority, and
 * its key, for a server that asks for one; or NULL. Such a connection takes up no session and leaves
 * none. */
struct tls *tls_client_new(struct tls_shared *s, const char *name, uint16_t port, unsigned offer,
	const struct tls_trust *trust, struct secret *certificate, struct err *err);
void tls_free(struct tls *t); /* NULL is fine */

/* Move what can be moved: @net_in and @out are consumed, @in and @net_out appended to as far as
 * they have room. Returns 0, or -1 with @err once and for ever: handshake, certificate or protocol
 * failure.
 * @net_out may then hold an alert that should still be sent. */
int tls_pump(struct tls *t, struct buf *net_in, struct buf *in, struct buf *out,
	struct buf *net_out, struct err *err);
/* The handshake is complete; for a client: the peer is verified. */
bool tls_ready(const struct tls *t);
enum tls_alpn tls_alpn(const struct tls *t); /* when ready */
/* The peer said that it will send nothing more. */
bool tls_ended(const struct tls *t);
/* Say so to the peer; the message appears in net_out at the next pump. */
void tls_end(struct tls *t);

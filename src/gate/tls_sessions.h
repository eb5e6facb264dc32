/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions with servers, to be taken up again: saves both sides a signature and us the check of
 * a certificate. A session says that the certificate was verified for this name when it began, so
 * it is used for this name and port only, for an hour at most, and never beyond the certificate's
 * end. */
#pragma once

#include <stdint.h>

#include <openssl/ssl.h>

#define TLS_SESSIONS_MAX 256u /* the oldest goes */
#define TLS_SESSION_S    3600

struct tls_sessions;

struct tls_sessions *tls_sessions_new(void);
void tls_sessions_free(struct tls_sessions *s); /* NULL is fine */
void tls_sessions_clear(struct tls_sessions *s);
/* Takes @session. */
void tls_sessions_put(
	struct tls_sessions *s, const char *name, uint16_t port, SSL_SESSION *session);
/* Gives the newest, or NULL. Each is given once, so that connections cannot be told to belong
 * together. */
SSL_SESSION *tls_sessions_take(struct tls_sessions *s, const char *name, uint16_t port);

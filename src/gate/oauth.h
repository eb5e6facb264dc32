/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth tokens stay on the host: what a token endpoint issues is kept, and the guest gets sentinels
 * in its place, which become tokens again on their way out. No I/O, no clock.
 *
 * One service can have several accounts: each login takes the first free place. The first account's
 * sentinels are those of the kit, the others' have "-2", "-3" … behind. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/filter.h"
#include "secret/secret.h"

#define OAUTH_BODY_MAX     (64u * 1024u) /* bytes of a token endpoint's messages */
#define OAUTH_ACCOUNTS_MAX 8u
#define OAUTH_SENTINEL_MAX 4096u /* with NUL and an account's number */

/* Names of a response's members, a path of several joined by dots; NULL for the usual one. */
struct oauth_names {
	const char *access, *refresh, *expires_in, *scope;
};

/* What is kept of an account. */
struct oauth_tokens {
	struct secret *access, *refresh; /* owned; refresh may be NULL */
	uint64_t expires_at;             /* seconds since 1970; 0: not said */
	char *scope;                     /* owned; may be NULL */
};
void oauth_tokens_done(struct oauth_tokens *t); /* {0} is fine */

/* The record in the token store: JSON. */
int oauth_record_read(struct secret *record, struct oauth_tokens *ret, struct err *err);
struct secret *oauth_record_write(const struct oauth_tokens *t, struct err *err);

/* The sentinel of account @account (from 1). */
const char *oauth_sentinel(const char *sentinel, unsigned account, char *buf, size_t size);

/* How a value is written inside a body. */
enum oauth_syntax { OAUTH_PLAIN, OAUTH_FORM, OAUTH_JSON };
/* What a body of @content_type is; anything but a form and JSON is plain. */
enum oauth_syntax oauth_syntax_of(const char *content_type, size_t len);
/* Let @f replace @sentinel by @token, as bodies of this syntax have them. */
void oauth_replace(
	struct filter *f, const char *sentinel, struct secret *token, enum oauth_syntax syntax);
/* Which account's tokens a request's body asks to renew: its only refresh token, which may be called
 * @name as well (NULL: nothing else), is that account's @sentinel, and it asks for nothing else. 0: none,
 * so that what is issued is a new account's. A guest must not have tokens of its choice put in the
 * place of an account by just mentioning it. */
unsigned oauth_renews(const void *body, size_t len, enum oauth_syntax syntax, const char *sentinel,
	const char *name);

/* The token endpoint's answer. 1: there are tokens in it; they are in *ret, and @out has the same
 * document with the sentinels. 0: there are none, it may pass. -1 with @err: it cannot be read, so
 * it must not pass. Signatures of ID tokens are blanked, so that they are good for reading only. */
int oauth_rewrite(const void *body, size_t len, const struct oauth_names *names,
	const char *access_sentinel, const char *refresh_sentinel, uint64_t now,
	struct oauth_tokens *ret, struct buf *out, struct err *err);
/* Whether an answer says that the refresh token is good for nothing any more. */
bool oauth_is_invalid_grant(const void *body, size_t len);

/* Wipe what jansson frees from now on. */
void oauth_wipe_json(void);

/* SPDX-License-Identifier: Apache-2.0 */
/* The user's logins at registries, as Docker keeps them. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* Either of the two, or none. Owned; wiped by login_done. */
struct login {
	char *auth;  /* base64 of user:password */
	char *token; /* an identity token */
	char *lacks; /* why a program that keeps logins did not help, or NULL */
};

/* What ~/.docker/config.json has for @host: credHelpers, credsStore, else auths. */
void login_find(const char *host, struct login *ret);
void login_done(struct login *l);

/* What such a program has printed. 0 also when there is no login in it; -1: not to be understood. */
int login_parse(const char *text, struct login *ret);

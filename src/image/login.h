/* SPDX-License-Identifier: Apache-2.0 */
/* The user's logins at registries, as Docker keeps them. */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define LOGIN_HUB_URL    "https://index.docker.io/v1/" /* Docker Hub, as its logins are kept */
#define LOGIN_ANSWER_MAX (64u << 10)

/* Either of the two, or none. Owned; wiped by login_done. */
struct login {
	char *auth;  /* base64 of user:password */
	char *token; /* an identity token */
	char *lacks; /* why a program that keeps logins did not help, or NULL */
};

/* What ~/.docker/config.json has for @host: credHelpers, credsStore, else auths. */
void login_find(const char *host, struct login *ret);
void login_done(struct login *l);

/* Pure; *ret is empty before. */
/* What such a program has printed. 0 also when there is no login in it; -1: not to be understood.
 */
int login_parse(const char *text, struct login *ret);
/* What config.json itself has for @host. The result is owned: the name of the program that is to be
 * asked first, or NULL. */
char *login_parse_config(const char *text, const char *host, struct login *ret);

/* SPDX-License-Identifier: Apache-2.0 */
/* What config.json and the programs that keep logins say. Pure. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/mem.h"
#include "image/login.h"
#include "oci/ref.h"

#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

static void forget(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(steal_ptr(s));
}

void login_done(struct login *l)
{
	forget(&l->auth);
	forget(&l->token);
	free(steal_ptr(&l->lacks));
}

int login_parse(const char *text, struct login *ret)
{
	json_t *j = json_loads(text, 0, NULL);
	const char *user = json_string_value(json_object_get(j, "Username"));
	const char *secret = json_string_value(json_object_get(j, "Secret"));
	struct buf pair, coded;

	/* Basic cannot say a user with a colon (RFC 7617). */
	if (!user || !secret || strchr(user, ':')) {
		json_decref(j);
		return -1;
	}
	buf_init(&pair, 2 * LOGIN_ANSWER_MAX);
	buf_init(&coded, 4 * LOGIN_ANSWER_MAX);
	if (strcmp(user, "<token>") == 0 && *secret) {
		ret->token = xstrdup(secret);
	} else if (*user && *secret) {
		buf_printf(&pair, "%s:%s", user, secret);
		base64_put(&coded, buf_head(&pair), buf_len(&pair), base64_std);
		ret->auth = xstrdup(buf_cstr(&coded));
	}
	buf_wipe(&pair);
	buf_wipe(&coded);
	json_decref(j);
	return 0;
}

/* What the file itself has. */
static void take_auth(const json_t *entry, struct login *ret)
{
	const char *auth = json_string_value(json_object_get(entry, "auth"));
	const char *token = json_string_value(json_object_get(entry, "identitytoken"));

	if (token && *token)
		ret->token = xstrdup(token);
	else if (auth && *auth && strspn(auth, BASE64) == strlen(auth))
		ret->auth = xstrdup(auth);
}

char *login_parse_config(const char *text, const char *host, struct login *ret)
{
	bool hub = strcmp(host, OCI_HUB) == 0;
	_free_ char *url = hub ? xstrdup(LOGIN_HUB_URL) : xasprintf("https://%s", host);
	const char *names[] = {host, url, hub ? "index.docker.io" : host};
	json_t *j = json_loads(text, 0, NULL);
	const char *helper = NULL;
	char *owned;

	for (size_t i = 0; !helper && i < ARRAY_SIZE(names); i++)
		helper = json_string_value(
			json_object_get(json_object_get(j, "credHelpers"), names[i]));
	if (!helper)
		helper = json_string_value(json_object_get(j, "credsStore"));
	for (size_t i = 0; !ret->auth && !ret->token && i < ARRAY_SIZE(names); i++)
		take_auth(json_object_get(json_object_get(j, "auths"), names[i]), ret);
	owned = helper && *helper ? xstrdup(helper) : NULL;
	json_decref(j);
	return owned;
}

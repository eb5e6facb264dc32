/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate of OCI registries (RFC 9110, section 11.6.1; one challenge). */
#include "fetch/challenge.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static const char *skip_space(const char *s)
{
	return s + strspn(s, " \t");
}

/* A token or a quoted string into @to; what is behind it, or NULL. */
static const char *take_value(const char *s, char *to, size_t size)
{
	bool quoted = *s == '"';
	size_t n = 0;

	if (quoted)
		s++;
	for (; *s && (quoted ? *s != '"' : !strchr(", \t", *s)); s++) {
		if (quoted && *s == '\\' && !*++s)
			return NULL;
		if ((unsigned char)*s < 0x20 || *s == 0x7f || n + 1 >= size)
			return NULL;
		to[n++] = *s;
	}
	to[n] = '\0';
	if (!quoted)
		return n ? s : NULL;
	return *s == '"' ? s + 1 : NULL;
}

bool challenge_parse(const char *text, struct challenge *ret)
{
	struct challenge c = {0};
	const char *s = skip_space(text);
	char other[1024];

	c.bearer = strncasecmp(s, "Bearer ", 7) == 0;
	c.basic = strncasecmp(s, "Basic", 5) == 0 && (!s[5] || s[5] == ' ');
	if (!c.bearer) {
		*ret = c;
		return c.basic;
	}
	for (s = skip_space(s + 7); *s; s = skip_space(s)) {
		size_t len = strcspn(s, "= \t,");
		const char *key = s;

		if (!len || s[len] != '=')
			return false;
		s += len + 1;
		if (len == 5 && strncasecmp(key, "realm", 5) == 0)
			s = take_value(s, c.realm, sizeof(c.realm));
		else if (len == 7 && strncasecmp(key, "service", 7) == 0)
			s = take_value(s, c.service, sizeof(c.service));
		else if (len == 5 && strncasecmp(key, "scope", 5) == 0)
			s = take_value(s, c.scope, sizeof(c.scope));
		else
			s = take_value(s, other, sizeof(other));
		if (!s)
			return false;
		s = skip_space(s);
		if (*s == ',')
			s++;
		else if (*s)
			return false;
	}
	if (!c.realm[0])
		return false;
	*ret = c;
	return true;
}

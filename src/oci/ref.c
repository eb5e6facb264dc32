/* SPDX-License-Identifier: Apache-2.0 */
/* References to images. */
#include "oci/ref.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define DIGITS       "0123456789"
#define LOWER        "abcdefghijklmnopqrstuvwxyz"
#define UPPER        "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TEXT_MAX     1000
#define NAME_MAX_LEN 255 /* the repository's name */
#define TAG_MAX      128

static bool only(const char *s, const char *set)
{
	return strspn(s, set) == strlen(s);
}

bool oci_digest_valid(const char *s)
{
	return strncmp(s, "sha256:", 7) == 0 && strlen(s + 7) == 64 && only(s + 7, DIGITS "abcdef");
}

static bool is_loopback(const char *host)
{
	size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

	return (len == 9 && strncmp(host, "localhost", 9) == 0) ||
	       (len == 5 && strncmp(host, "[::1]", 5) == 0) ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, DIGITS ".") == len);
}

/* NAME, a.b.c, [::1], each with or without port. */
static bool is_host(const char *host)
{
	size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	const char *port = host + len;

	if (*host == '[') {
		if (host[len - 1] != ']' || strspn(host + 1, DIGITS "abcdef:.") != len - 2)
			return false;
	} else if (strspn(host, LOWER DIGITS ".-") != len || !len || strchr(".-", *host) ||
		   strchr(".-", host[len - 1]) || strstr(host, "..")) {
		return false;
	}
	return !*port ||
	       (*port == ':' && port[1] && strlen(port + 1) <= 5 && only(port + 1, DIGITS));
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, with slashes between. */
static bool is_repo(const char *repo)
{
	const char *s = repo;

	if (!*repo || strlen(repo) > NAME_MAX_LEN)
		return false;
	for (;;) {
		size_t word = strspn(s, LOWER DIGITS), sep;

		s += word;
		if (!word)
			return false;
		if (!*s)
			return true;
		sep = *s == '-' ? strspn(s, "-") : (*s == '_' ? strspn(s, "_") : 1);
		if (!strchr("._-/", *s) || (*s == '_' && sep > 2))
			return false;
		s += sep;
	}
}

static bool is_tag(const char *tag)
{
	return *tag && strlen(tag) <= TAG_MAX && !strchr(".-", *tag) &&
	       only(tag, LOWER UPPER DIGITS "._-");
}

/* Cut the host off @rest, which stays whole where there is none. */
static void split_host(const char **rest, struct oci_ref *r)
{
	const char *slash = strchr(*rest, '/');
	_free_ char *first = slash ? xstrndup(*rest, (size_t)(slash - *rest)) : NULL;

	if (!first || (!strpbrk(first, ".:" UPPER) && strcmp(first, "localhost") != 0)) {
		r->host = xstrdup(OCI_HUB);
		return;
	}
	*rest = slash + 1;
	r->host = strcmp(first, "index." OCI_HUB) == 0 ? xstrdup(OCI_HUB) : steal_ptr(&first);
}

static int parse(const char *text, struct oci_ref *r, struct err *err)
{
	const char *rest = text, *at;
	_free_ char *name = NULL;
	char *colon;

	if (strncmp(rest, OCI_SCHEME, strlen(OCI_SCHEME)) == 0)
		rest += strlen(OCI_SCHEME);
	split_host(&rest, r);
	if (!is_host(r->host))
		return err_set(err, ERR_USER, "%s: not the name of a registry's host", r->host);
	r->local = is_loopback(r->host);
	at = strchr(rest, '@');
	name = xstrndup(rest, at ? (size_t)(at - rest) : strlen(rest));
	colon = strchr(name, ':');
	if (colon) {
		*colon = '\0';
		if (!is_tag(colon + 1))
			return err_set(err, ERR_USER, "\"%s\": not a tag", colon + 1);
	}
	if (at && !oci_digest_valid(at + 1))
		return err_set(err, ERR_USER, "expected @sha256: and 64 hexadecimal digits");
	if (!is_repo(name))
		return err_set(err, ERR_USER, "\"%s\": not the name of an image", name);
	if (strcmp(r->host, OCI_HUB) == 0 && !strchr(name, '/'))
		r->repo = xasprintf("library/%s", name);
	else
		r->repo = xstrdup(name);
	if (at)
		r->digest = xstrdup(at + 1);
	else
		r->tag = xstrdup(colon ? colon + 1 : "latest");
	return 0;
}

int oci_ref_parse(const char *text, struct oci_ref *ret, struct err *err)
{
	struct oci_ref r = {0};

	if (strlen(text) > TEXT_MAX)
		return err_set(err, ERR_USER, "a reference of more than %d bytes", TEXT_MAX);
	if (parse(text, &r, err) < 0) {
		oci_ref_done(&r);
		return err_wrap(err, "image %s", text);
	}
	*ret = r;
	return 0;
}

void oci_ref_done(struct oci_ref *r)
{
	free(r->host);
	free(r->repo);
	free(r->tag);
	free(r->digest);
	*r = (struct oci_ref){0};
}

char *oci_ref_pinned(const struct oci_ref *r, const char *digest)
{
	return xasprintf(OCI_SCHEME "%s/%s@%s", r->host, r->repo, digest);
}

char *oci_ref_text(const struct oci_ref *r)
{
	return xasprintf("%s/%s%s%s", r->host, r->repo, r->digest ? "@" : ":",
		r->digest ? r->digest : r->tag);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* References to kits that are no directories. */
#include "remote/ref.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

#define DIGITS   "0123456789"
#define HEX      DIGITS "abcdef"
#define LOWER    "abcdefghijklmnopqrstuvwxyz"
#define UPPER    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TEXT_MAX 2000

static bool only(const char *s, const char *set)
{
	return strspn(s, set) == strlen(s);
}

bool ref_is_remote(const char *text)
{
	size_t len = strlen(text);

	return strncmp(text, "oci://", 6) == 0 || strncmp(text, "git+", 4) == 0 ||
	       (len > 4 && strcmp(text + len - 4, ".zip") == 0);
}

/* Of a host with or without port and user. */
static bool is_loopback(const char *host)
{
	const char *at = strrchr(host, '@');
	size_t len;

	host = at ? at + 1 : host;
	len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	return (len == 9 && strncmp(host, "localhost", 9) == 0) ||
	       (len == 5 && strncmp(host, "[::1]", 5) == 0) ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, DIGITS ".") == len);
}

/* No empty segment, no "." and "..". */
static bool is_normal_path(const char *path)
{
	while (*path) {
		size_t len = strcspn(path, "/");

		if (!len || (len == 1 && *path == '.') || (len == 2 && memcmp(path, "..", 2) == 0))
			return false;
		path += len;
		if (*path == '/' && !*++path)
			return false;
	}
	return true;
}

/* A host with or without port, as far as it matters here: no option, no path. */
static bool is_host(const char *host)
{
	return only(host, LOWER UPPER DIGITS ".-:[]") && *host && !strchr(".-:", *host) &&
	       !strstr(host, "..");
}

/* ---- git ---- */

/* ref=… and dir=… behind '#'. */
static int parse_fragment(const char *text, struct ref *r, struct err *err)
{
	while (text && *text) {
		size_t len = strcspn(text, "&");
		_free_ char *value = len > 4 ? xstrndup(text + 4, len - 4) : NULL;

		if (value && strncmp(text, "ref=", 4) == 0 && !r->pin && !r->name) {
			if (strlen(value) == 40 && only(value, HEX))
				r->pin = steal_ptr(&value);
			else if (*value != '-' && only(value, LOWER UPPER DIGITS "._/-+@") &&
				 !strstr(value, "..") && !strstr(value, "@{"))
				r->name = steal_ptr(&value);
			else
				return err_set(err, ERR_USER,
					"ref=%s: neither a commit nor the name of a branch or tag",
					value);
		} else if (value && strncmp(text, "dir=", 4) == 0 && !*r->dir) {
			while (strlen(value) > 1 && value[strlen(value) - 1] == '/')
				value[strlen(value) - 1] = '\0';
			if (!is_normal_path(value) || *value == '-' ||
				!only(value, LOWER UPPER DIGITS "._/-+@ "))
				return err_set(err, ERR_USER, "dir=%s: not a path inside", value);
			free(r->dir);
			r->dir = steal_ptr(&value);
		} else {
			return err_set(err, ERR_USER,
				"#%s: expected ref=COMMIT and dir=DIRECTORY, each once, with & "
				"between",
				text);
		}
		text += len + (text[len] == '&');
	}
	return 0;
}

/* The part between the scheme and the path. */
static int check_git_host(const char *scheme, const char *host, struct ref *r, struct err *err)
{
	const char *at = strchr(host, '@');
	bool ssh = strcmp(scheme, "ssh") == 0;

	r->local = is_loopback(host);
	if (at && (!ssh || at == host))
		return err_set(err, ERR_USER, "a user in the address, which only git+ssh takes");
	if (!is_host(at ? at + 1 : host) ||
		(at && (*host == '-' ||
			       strspn(host, LOWER UPPER DIGITS "._-") != (size_t)(at - host))))
		return err_set(err, ERR_USER, "not the name of a host");
	if (strcmp(scheme, "http") == 0 && !r->local)
		return err_set(
			err, ERR_USER, "git+http is for this machine alone, expected git+https");
	return 0;
}

static int parse_git(const char *text, struct ref *r, struct err *err)
{
	static const char *const schemes[] = {"https", "ssh", "file", "http"};
	const char *url = text + 4, *colon = strstr(url, "://"), *hash = strchr(url, '#'), *path;
	_free_ char *scheme = colon ? xstrndup(url, (size_t)(colon - url)) : xstrdup("");
	_free_ char *host = NULL;
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
		known |= strcmp(scheme, schemes[i]) == 0;
	if (!known)
		return err_set(err, ERR_USER, "expected git+https, git+ssh or git+file");
	r->dir = xstrdup("");
	r->url = xstrndup(url, hash ? (size_t)(hash - url) : strlen(url));
	colon = strstr(r->url, "://") + 3;
	path = strchr(colon, '/');
	if (!path || !path[1] || !is_normal_path(path + 1) ||
		!only(path, LOWER UPPER DIGITS "._/-+~@"))
		return err_set(err, ERR_USER, "not the path of a repository");
	host = xstrndup(colon, (size_t)(path - colon));
	if (strcmp(scheme, "file") == 0 ? *host != '\0' : *host == '\0')
		return err_set(err, ERR_USER, "expected git+%s://%s/PATH", scheme,
			strcmp(scheme, "file") == 0 ? "" : "HOST");
	for (char *c = r->url; c < r->url + (path - r->url); c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	if (strcmp(scheme, "file") == 0)
		r->local = true;
	else if (check_git_host(scheme, host, r, err) < 0)
		return -1;
	if (parse_fragment(hash ? hash + 1 : NULL, r, err) < 0)
		return -1;
	r->source = xasprintf("git+%s%s%s", r->url, *r->dir ? "#dir=" : "", r->dir);
	return 0;
}

/* ---- OCI ---- */

static bool is_repo(const char *repo)
{
	if (!is_normal_path(repo) || !only(repo, LOWER DIGITS "._/-"))
		return false;
	for (const char *s = repo; s; s = strchr(s, '/') ? strchr(s, '/') + 1 : NULL)
		if (strchr("._-", *s))
			return false;
	return *repo != '\0';
}

static int parse_oci(const char *text, struct ref *r, struct err *err)
{
	const char *rest = text + 6, *slash = strchr(rest, '/'), *at, *tag;

	if (!slash || slash == rest)
		return err_set(err, ERR_USER, "expected oci://HOST/NAME@sha256:DIGEST");
	r->host = xstrndup(rest, (size_t)(slash - rest));
	if (!is_host(r->host) || strpbrk(r->host, UPPER) ||
		(!strpbrk(r->host, ".:") && strcmp(r->host, "localhost") != 0))
		return err_set(err, ERR_USER, "%s: not the name of a registry's host", r->host);
	r->local = is_loopback(r->host);
	at = strchr(slash, '@');
	r->repo = xstrndup(slash + 1, at ? (size_t)(at - slash - 1) : strlen(slash + 1));
	tag = strchr(r->repo, ':');
	if (tag) {
		r->name = xstrdup(tag + 1);
		r->repo[tag - r->repo] = '\0';
		if (!*r->name || strlen(r->name) > 128 || strchr(".-", *r->name) ||
			!only(r->name, LOWER UPPER DIGITS "._-"))
			return err_set(err, ERR_USER, "%s: not a tag", r->name);
	}
	if (!is_repo(r->repo))
		return err_set(err, ERR_USER, "%s: not a name in a registry", r->repo);
	if (at) {
		if (strncmp(at + 1, "sha256:", 7) != 0 || strlen(at + 8) != 64 ||
			!only(at + 8, HEX))
			return err_set(
				err, ERR_USER, "expected @sha256: and 64 hexadecimal digits");
		r->pin = xstrdup(at + 1);
	}
	r->source = xasprintf("oci://%s/%s", r->host, r->repo);
	return 0;
}

int ref_parse(const char *text, struct ref *ret, struct err *err)
{
	struct ref r = {0};
	int result;

	if (strlen(text) > TEXT_MAX)
		return err_set(err, ERR_USER, "a reference of more than %d bytes", TEXT_MAX);
	if (strncmp(text, "oci://", 6) == 0) {
		r.kind = REF_OCI;
		result = parse_oci(text, &r, err);
	} else if (strncmp(text, "git+", 4) == 0) {
		r.kind = REF_GIT;
		result = parse_git(text, &r, err);
	} else {
		r.kind = REF_ZIP;
		r.local = true;
		r.url = xstrdup(text);
		r.source = xstrdup(text);
		result = 0;
	}
	if (result < 0) {
		ref_done(&r);
		return err_wrap(err, "%s", text);
	}
	*ret = r;
	return 0;
}

char *ref_pinned(const struct ref *r)
{
	if (r->kind == REF_OCI)
		return xasprintf("oci://%s/%s@%s", r->host, r->repo, r->pin);
	if (r->kind == REF_GIT)
		return xasprintf(
			"git+%s#ref=%s%s%s", r->url, r->pin, *r->dir ? "&dir=" : "", r->dir);
	return xasprintf("zip:%s", r->pin);
}

void ref_done(struct ref *r)
{
	free(r->source);
	free(r->url);
	free(r->dir);
	free(r->host);
	free(r->repo);
	free(r->name);
	free(r->pin);
	*r = (struct ref){0};
}

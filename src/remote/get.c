/* SPDX-License-Identifier: Apache-2.0 */
/* From a reference to the directory of a kit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/tree.h"
#include "remote/remote.h"
#include "remote/tools.h"

#define ZIP_MAX (64u << 20)

static void say(const struct remote *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct remote *r, const char *fmt, ...)
{
	_free_ char *text = NULL;
	va_list ap;

	if (!r->notice)
		return;
	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	r->notice(text);
}

/* ---- what the user demands ---- */

static bool matches(const char *pattern, const char *text)
{
	size_t len = strlen(pattern);

	return len && pattern[len - 1] == '*' ? strncmp(pattern, text, len - 1) == 0
					      : strcmp(pattern, text) == 0;
}

static int check_source(const struct remote *r, const struct ref *ref, struct err *err)
{
	const struct settings *s = r->settings;
	_free_ char *pinned = ref->pin && ref->kind != REF_ZIP ? ref_pinned(ref) : NULL;

	if (ref->kind == REF_ZIP || !s || !s->kit.limit_sources)
		return 0;
	for (size_t i = 0; i < s->kit.allowed_sources.n; i++)
		if (matches(s->kit.allowed_sources.v[i], ref->source) ||
			(pinned && matches(s->kit.allowed_sources.v[i], pinned)))
			return 0;
	err_set(err, ERR_USER, "%s: not a source that your settings allow", ref->source);
	return err_hint(err, "add it to kit.allowedSources in settings.yaml");
}

/* Which file a kit takes its instructions from, which is signed, too; owned, or NULL. */
static char *content_file(const char *path)
{
	struct kit_inputs in = {.placeholders = true};
	struct kit_errors errs = {0};
	struct kit k = {0};
	char *name = NULL;

	if (kit_load(path, &in, &k, &errs, NULL) == 0)
		name = steal_ptr(&k.instructions_file);
	kit_errors_done(&errs);
	kit_done(&k);
	return name;
}

static int check_signature(const struct remote *r, const struct kit_place *p, struct err *err)
{
	const struct settings *s = r->settings;
	_free_ char *extra = NULL;
	size_t key;

	if (!s || !s->kit.require_signature)
		return 0;
	extra = content_file(p->path);
	if (sign_check(p->root, extra, &s->kit.trusted_keys, &key, err) == 0)
		return 0;
	err_wrap(err, "%s", p->pin);
	return err_hint(err, "your settings (kit.requireSignature) demand a signature by a key of "
			     "kit.trustedKeys");
}

/* ---- fetching ---- */

static int zip_digest(struct ref *ref, int fd, struct err *err)
{
	char chunk[16384], hex[SHA256_HEX];
	struct sha256 s;
	uint64_t total = 0;
	ssize_t n;

	sha256_init(&s);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0 && (total += (uint64_t)n) <= ZIP_MAX)
		sha256_add(&s, chunk, (size_t)n);
	if (n < 0)
		return err_errno(err, "%s", ref->url);
	if (n > 0)
		return err_set(err, ERR_USER, "%s: an archive of more than 64 MiB", ref->url);
	sha256_hex(&s, hex);
	ref->pin = xstrdup(hex);
	return 0;
}

/* What the reference means today, when it does not say. */
static int pin(const struct remote *r, struct ref *ref, const char *text, struct err *err)
{
	_free_ char *pinned = NULL;

	if (ref->kind == REF_ZIP) {
		_close_ int fd = open(ref->url, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			return err_set(err, ERR_USER, "kit %s: %s", ref->url, strerror(errno));
		if (!S_ISREG(st.st_mode))
			return err_set(err, ERR_USER, "kit %s: not a regular file", ref->url);
		return zip_digest(ref, fd, err);
	}
	if (ref->pin)
		return 0;
	if (ref->kind == REF_GIT)
		ref->pin = git_resolve(ref, err);
	else if (tool_registry("resolve", ref, ref->name ? ref->name : "latest", -1, NULL,
			 &ref->pin, err) < 0)
		return -1;
	if (!ref->pin)
		return -1;
	pinned = ref_pinned(ref);
	say(r, "%s: pinned as %s", text, pinned);
	return 0;
}

static int unzip(const struct stage *s, int fd, struct err *err)
{
	_close_ int to = -1;

	if (mkdirat(s->fd, "kit", 0700) < 0)
		return err_errno(err, "%s", s->path);
	to = openat(s->fd, "kit", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || to < 0)
		return err_errno(err, "%s", s->path);
	return tool_extract("zip", fd, to, err);
}

/* A descriptor of schemaVersion "3" has no name but its file's. */
static int place_descriptor(const struct ref *ref, const struct stage *s, struct err *err)
{
	const char *slash = strrchr(ref->repo, '/');
	_free_ char *to = xasprintf("kit/%s.yaml", slash ? slash + 1 : ref->repo);

	return renameat(s->fd, "descriptor.json", s->fd, to) < 0 ? err_errno(err, "%s", to) : 0;
}

static int place_parts(const struct ref *ref, const struct stage *s, struct err *err)
{
	static const char *const names[] = {"spec.yaml", SIGN_BUNDLE, SIGN_PLAIN};
	_close_ int zip = openat(s->fd, "kit.zip", O_RDONLY | O_CLOEXEC);
	_close_ int layer = openat(s->fd, "layer", O_RDONLY | O_CLOEXEC), kit = -1;

	if (zip >= 0)
		return unzip(s, zip, err);
	if (mkdirat(s->fd, "kit", 0700) < 0)
		return err_errno(err, "%s", s->path);
	kit = openat(s->fd, "kit", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (layer >= 0 && tool_extract("layer", layer, kit, err) < 0)
		return -1;
	if (faccessat(s->fd, "descriptor.json", F_OK, 0) == 0)
		return place_descriptor(ref, s, err);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (renameat(s->fd, names[i], kit, names[i]) < 0 && errno != ENOENT)
			return err_errno(err, "%s", names[i]);
	return 0;
}

static int fetch(const struct ref *ref, const struct stage *s, struct err *err)
{
	_free_ char *digest = NULL;
	int result;

	if (ref->kind == REF_GIT)
		return git_fetch(ref, s, err);
	if (ref->kind == REF_ZIP) {
		_close_ int fd = open(ref->url, O_RDONLY | O_CLOEXEC);

		return unzip(s, fd, err) < 0 ? err_wrap(err, "%s", ref->url) : 0;
	}
	result = tool_registry("pull", ref, ref->pin, s->fd, NULL, &digest, err);
	if (result == 0 && strcmp(digest, ref->pin) != 0)
		return err_set(
			err, ERR_PEER, "%s: another manifest than %s", ref->source, ref->pin);
	if (result == 0 && place_parts(ref, s, err) < 0)
		return err_wrap(err, "%s", ref->source);
	return result;
}

/* Where the kit is in what was fetched: at the top, or in the only directory there. */
static char *find_top(const struct stage *s)
{
	_close_ int fd = openat(s->fd, "kit", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct tree t = {0};
	const char *slash;
	char *top = NULL;

	if (fd < 0 || faccessat(fd, "spec.yaml", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
		tree_list(fd, &t, NULL) < 0)
		return xstrdup("kit");
	slash = t.n ? strchr(t.v[0].path, '/') : NULL;
	if (slash) {
		size_t len = (size_t)(slash - t.v[0].path) + 1;

		top = xasprintf("kit/%.*s", (int)len - 1, t.v[0].path);
		for (size_t i = 0; i < t.n; i++)
			if (strncmp(t.v[i].path, t.v[0].path, len) != 0) {
				free(top);
				top = NULL;
				break;
			}
	}
	tree_done(&t);
	return top ? top : xstrdup("kit");
}

/* The YAML file of the kit in @root; owned. */
static char *find_file(const char *root)
{
	_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_free_ char *name = fd < 0 ? NULL : sign_spec_name(fd);

	return fs_join(root, name ? name : "spec.yaml");
}

static const char *known_pin(const struct remote *r, const char *text)
{
	for (size_t i = 0; i < r->n_seen; i++)
		if (strcmp(r->seen[i].text, text) == 0)
			return r->seen[i].pinned;
	return NULL;
}

static void remember(struct remote *r, const char *text, const char *pinned)
{
	r->seen = xrealloc(r->seen, r->n_seen + 1, sizeof(*r->seen));
	r->seen[r->n_seen++] = (struct remote_seen){xstrdup(text), xstrdup(pinned)};
}

static int get(
	struct remote *r, struct ref *ref, const char *text, struct kit_place *p, struct err *err)
{
	struct stage s = {0};
	char digest[SHA256_HEX];

	if (check_source(r, ref, err) < 0 || pin(r, ref, text, err) < 0)
		return -1;
	p->pin = ref_pinned(ref);
	p->root = cache_find(p->pin, digest);
	if (!p->root) {
		_free_ char *top = NULL;
		int result = stage_open(&s, err);

		if (result == 0)
			result = fetch(ref, &s, err);
		if (result == 0) {
			top = find_top(&s);
			p->root = cache_add(&s, top, p->pin, digest, err);
		}
		stage_close(&s);
		if (!p->root)
			return -1;
	}
	p->digest = xstrdup(digest);
	p->path = find_file(p->root);
	if (ref->kind != REF_ZIP)
		p->source = xstrdup(ref->source);
	return check_signature(r, p, err);
}

int remote_get(struct remote *r, const char *text, struct kit_place *ret, struct err *err)
{
	const char *pinned = known_pin(r, text);
	struct kit_place p = {0};
	struct ref ref;
	int result;

	if (ref_parse(pinned ? pinned : text, &ref, err) < 0)
		return -1;
	result = get(r, &ref, text, &p, err);
	if (result == 0 && !pinned && ref.kind != REF_ZIP)
		remember(r, text, p.pin);
	ref_done(&ref);
	if (result < 0) {
		kit_place_done(&p);
		return -1;
	}
	*ret = p;
	return 0;
}

/* ---- for the loader of kits ---- */

/* A kit from elsewhere has no business with addresses of this machine. */
static int check_naming(const char *text, const struct kit *from, struct err *err)
{
	struct ref ref;
	bool local;

	if (ref_parse(text, &ref, err) < 0)
		return -1;
	local = ref.local;
	ref_done(&ref);
	return local ? err_set(err, ERR_USER,
			       "kit %s comes from elsewhere and must not name %s of this machine",
			       from->name, text)
		     : 0;
}

static int find(void *arg, const char *text, const struct kit *from, struct kit_place *ret,
	struct err *err)
{
	_free_ char *beside = NULL;

	if (!ref_is_remote(text))
		return 1;
	if (from && from->pin && check_naming(text, from, err) < 0)
		return -1;
	if (from && from->dir && *text != '/' && !strstr(text, "://"))
		beside = fs_join(from->dir, text); /* a ZIP file */
	return remote_get(arg, beside ? beside : text, ret, err) < 0 ? -1 : 0;
}

struct kit_finder remote_finder(struct remote *r)
{
	return (struct kit_finder){find, r};
}

void remote_done(struct remote *r)
{
	for (size_t i = 0; i < r->n_seen; i++) {
		free(r->seen[i].text);
		free(r->seen[i].pinned);
	}
	free(r->seen);
	r->seen = NULL;
	r->n_seen = 0;
}

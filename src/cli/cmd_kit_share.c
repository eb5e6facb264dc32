/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit pack, push, pull, sign, verify: kits on their way to and from elsewhere. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/tree.h"
#include "cli/kit.h"

void kit_notice(const char *text)
{
	_free_ char *line = xasprintf("hutch: %s\n", text);

	cli_print(stderr, line);
}

int kit_open_remote(struct settings *s, struct remote *r)
{
	struct kit_errors errs = {0};
	struct err err;
	int result = settings_load(NULL, s, &errs, &err);

	*r = (struct remote){.settings = s, .notice = kit_notice};
	kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	return result < 0 ? cli_fail(&err) : 0;
}

int kit_find(struct remote *r, const char *ref, struct kit_place *ret, struct err *err)
{
	struct kit_finder finder = remote_finder(r);
	int found = finder.find(finder.arg, ref, NULL, ret, err);

	if (found <= 0)
		return found;
	/* A path needs no slash when it is there. */
	if (!strchr(ref, '/') && strchr(ref, '.') && fs_exists(ref))
		ret->path = xstrdup(ref);
	else
		ret->path = kit_locate(ref, err);
	return ret->path ? 0 : -1;
}

/* Load @ref for checking alone, without values of arguments. */
static int load(struct remote *r, const char *ref, struct kit *ret, struct err *err)
{
	struct kit_inputs in = {.placeholders = true};
	struct kit_errors errs = {0};
	struct kit_place place = {0};
	int result = kit_find(r, ref, &place, err);

	if (result == 0)
		result = kit_load(place.path, &in, ret, &errs, err);
	kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	kit_place_done(&place);
	return result;
}

/* ---- pack, push, pull ---- */

int kit_pack(struct remote *r, const struct kit_options *o)
{
	_free_ char *to = NULL;
	struct kit k = {0};
	struct err err;
	int result = load(r, o->refs.v[0], &k, &err);

	if (result == 0) {
		to = o->output ? xstrdup(o->output) : xasprintf("%s.zip", k.name);
		result = remote_pack(k.dir, to, &err);
	}
	kit_done(&k);
	if (result < 0)
		return cli_fail(&err);
	printf("%s\n", to);
	return 0;
}

int kit_push(struct remote *r, const struct kit_options *o)
{
	_free_ char *pinned = NULL;
	struct kit k = {0};
	struct err err;
	int result = load(r, o->refs.v[0], &k, &err);

	if (result == 0)
		result = remote_push(r, &k, o->refs.v[1], &pinned, &err);
	kit_done(&k);
	if (result < 0)
		return cli_fail(&err);
	printf("%s\n", pinned);
	return 0;
}

/* Copy what was fetched to a new directory. */
static int copy_out(const char *root, const char *to, struct err *err)
{
	_close_ int from = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;

	if (mkdir(to, 0755) < 0)
		return errno == EEXIST ? err_set(err, ERR_USER, "%s is there already", to)
				       : err_errno(err, "%s", to);
	fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || fd < 0)
		return err_errno(err, "%s", to);
	if (tree_copy(from, fd, err) == 0)
		return 0;
	fs_remove_tree(AT_FDCWD, to, NULL);
	return -1;
}

int kit_pull(struct remote *r, const struct kit_options *o)
{
	struct kit_errors errs = {0};
	struct kit_inputs in = {.placeholders = true};
	struct kit_place place = {0};
	struct kit k = {0};
	struct err err;
	int result = remote_get(r, o->refs.v[0], &place, &err);
	const char *to;
	size_t len;

	if (result == 0)
		result = kit_load(place.path, &in, &k, &errs, &err);
	kit_errors_print(&errs, stderr);
	if (result == 0) {
		to = o->output ? o->output : k.name;
		len = strlen(to);
		result = len > 4 && strcmp(to + len - 4, ".zip") == 0
				 ? remote_pack(place.root, to, &err)
				 : copy_out(place.root, to, &err);
	}
	if (result == 0)
		printf("%s\n", place.pin);
	kit_errors_done(&errs);
	kit_place_done(&place);
	kit_done(&k);
	return result < 0 ? cli_fail(&err) : 0;
}

/* ---- sign, verify ---- */

int kit_sign(struct remote *r, const struct kit_options *o)
{
	struct kit k = {0};
	struct err err;
	int result;

	if (o->keys.n != 1)
		return cli_failf("kit sign: --key FILE is needed: a private key in PEM, as of "
				 "openssl genpkey -algorithm ed25519");
	if (ref_is_remote(o->refs.v[0])) {
		cli_failf("kit sign: %s is no directory", o->refs.v[0]);
		fprintf(stderr, "       sign the directory, then pack or push it\n");
		return CLI_FAILED;
	}
	result = load(r, o->refs.v[0], &k, &err);
	if (result == 0)
		result = sign_make(k.dir, k.instructions_file, o->keys.v[0], o->plain, &err);
	if (result == 0)
		printf("%s/%s\n", k.dir, o->plain ? SIGN_PLAIN : SIGN_BUNDLE);
	kit_done(&k);
	return result < 0 ? cli_fail(&err) : 0;
}

/* What is signed, for other programs to verify. */
static int list(const struct kit *k, struct err *err)
{
	_close_ int fd = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_buf_ struct buf text = {.max = 16u << 20};

	if (fd < 0)
		return err_errno(err, "%s", k->dir);
	if (sign_text(fd, k->instructions_file, &text, err) < 0)
		return -1;
	fwrite(buf_head(&text), 1, buf_len(&text), stdout);
	return 0;
}

int kit_verify(struct remote *r, const struct kit_options *o)
{
	const struct strv *keys = o->keys.n ? &o->keys : &r->settings->kit.trusted_keys;
	struct kit k = {0};
	struct err err;
	size_t key;
	int result;

	if (!o->list && !keys->n)
		return cli_failf(
			"kit verify: --key FILE is needed, or kit.trustedKeys in settings.yaml");
	result = load(r, o->refs.v[0], &k, &err);
	if (result == 0 && o->list) {
		result = list(&k, &err);
	} else if (result == 0) {
		result = sign_check(k.dir, k.instructions_file, keys, &key, &err);
		if (result == 0)
			printf("%s: signed by %s\n", k.name, keys->v[key]);
		else
			err_wrap(&err, "kit %s", k.name);
	}
	kit_done(&k);
	return result < 0 ? cli_fail(&err) : 0;
}

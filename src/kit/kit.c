/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a kit: the file, the fork on schemaVersion, the files tree. */
#include "kit/kit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/paths.h"
#include "kit/grammar.h"
#include "wire/spec.h"

/* A reference is replaced before YAML is read, so it may stand anywhere. */
static void check_references(struct load *l, struct ynode *n)
{
	for (const char *at = n->value; at && (at = strstr(at, "${{")) != NULL; at += 3)
		if (strncmp(at + 3 + strspn(at + 3, " \t"), "kit.args.", 9) == 0) {
			load_error(l, n,
				"refers to an argument of the kit, arguments are not "
				"supported yet");
			n->kind = YNODE_BAD; /* its value is unknown */
			break;
		}
	for (size_t i = 0; i < n->n; i++)
		check_references(l, n->items[i]);
}

static void load_tree(struct load *l, struct ynode *root, struct kit *k)
{
	const struct ynode *version = ynode_get(root, "schemaVersion");
	const char *s;
	char safe[32];

	if (!load_is_map(l, root))
		return;
	if (!version) {
		load_error(l, root, "schemaVersion is missing, expected schemaVersion: \"2\"");
		return;
	}
	s = load_scalar(l, version, "the string \"2\"");
	if (!s)
		return;
	if (strcmp(s, "2") == 0) {
		k->schema = 2;
		check_references(l, root);
		grammar2_load(l, root, k);
	} else if (strcmp(s, "1") == 0 || strcmp(s, "3") == 0) {
		load_error(l, version, "schemaVersion %s is not supported yet, expected \"2\"", s);
	} else {
		load_error(l, version, "\"%s\", expected \"2\"",
			log_safe(safe, sizeof(safe), s, strlen(s)));
	}
}

int kit_load_text(
	const char *text, size_t len, const char *file, struct kit *ret, struct kit_errors *errs)
{
	size_t before = errs->n_errors;
	struct kit k = {.file = xstrdup(file)};
	struct load l = {.file = file, .errs = errs};
	struct ynode *root = ynode_read(text, len, file, errs);

	if (root)
		load_tree(&l, root, &k);
	ynode_free(root);
	if (errs->n_errors != before) {
		kit_errors_sort(errs);
		kit_done(&k);
		return -1;
	}
	*ret = k;
	return 0;
}

/* The directory and the file that @path means. */
static int find_spec(const char *path, char **ret_dir, char **ret_file, struct err *err)
{
	_free_ char *file = NULL, *dir = NULL, *real = NULL;
	const char *slash = strrchr(path, '/');
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, ERR_USER, "kit %s: %s", path,
			errno == ENOENT ? "no such directory" : strerror(errno));
	if (S_ISDIR(st.st_mode)) {
		dir = xstrdup(path);
		file = fs_join(path, "spec.yaml");
		if (stat(file, &st) < 0)
			return err_set(err, ERR_USER, "kit %s: %s", path,
				errno == ENOENT ? "no spec.yaml in this directory"
						: strerror(errno));
	} else {
		dir = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
		file = xstrdup(path);
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_USER, "kit %s: %s is not a regular file", path, file);
	real = realpath(dir, NULL);
	if (!real)
		return err_errno(err, "kit %s", path);
	*ret_dir = steal_ptr(&real);
	*ret_file = steal_ptr(&file);
	return 0;
}

int kit_load(const char *path, struct kit *ret, struct kit_errors *errs, struct err *err)
{
	_free_ char *dir = NULL, *file = NULL;
	size_t before = errs->n_errors, found;
	struct kit k = {0};
	_buf_ struct buf text = {.max = YNODE_FILE_MAX};

	if (find_spec(path, &dir, &file, err) < 0)
		return -1;
	if (fs_read_file(AT_FDCWD, file, &text, err) < 0)
		return err_wrap(err, "kit %s", path);
	if (kit_load_text((const char *)buf_head(&text), buf_len(&text), file, &k, errs) == 0) {
		k.dir = steal_ptr(&dir);
		kit_check_files(&k, errs);
	}
	found = errs->n_errors - before;
	if (found) {
		kit_done(&k);
		return err_set(
			err, ERR_USER, "kit %s: %zu error%s", path, found, found == 1 ? "" : "s");
	}
	*ret = k;
	return 0;
}

static void credential_done(struct kit_credential *c)
{
	for (size_t i = 0; i < c->n_injects; i++) {
		free(c->injects[i].domain);
		free(c->injects[i].header);
		free(c->injects[i].format);
		free(c->injects[i].username);
	}
	free(c->injects);
	free(c->service);
	free(c->description);
	free(c->env);
}

void kit_done(struct kit *k)
{
	char **strings[] = {&k->dir, &k->file, &k->name, &k->version, &k->display_name,
		&k->description, &k->source_url, &k->requires_agent, &k->sandbox.image,
		&k->instructions_filename, &k->instructions};
	struct kit_step *lists[] = {k->install, k->startup};
	size_t counts[] = {k->n_install, k->n_startup};

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(*strings[i]);
	strv_done(&k->licenses);
	strv_done(&k->sandbox.entrypoint);
	strv_done(&k->sandbox.command_default);
	strv_done(&k->sandbox.command_interactive);
	for (size_t i = 0; i < k->n_rules; i++)
		free(k->rules[i].target);
	for (size_t i = 0; i < k->n_vars; i++) {
		free(k->vars[i].name);
		free(k->vars[i].value);
	}
	for (size_t i = 0; i < k->n_credentials; i++)
		credential_done(&k->credentials[i]);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (size_t m = 0; m < counts[i]; m++) {
			strv_done(&lists[i][m].argv);
			free(lists[i][m].user);
			free(lists[i][m].description);
		}
		free(lists[i]);
	}
	for (size_t i = 0; i < k->n_files; i++) {
		free(k->files[i].path);
		free(k->files[i].content);
		free(k->files[i].description);
	}
	free(k->rules);
	free(k->vars);
	free(k->credentials);
	free(k->files);
	*k = (struct kit){0};
}

char *kit_locate(const char *name_or_path, struct err *err)
{
	_free_ char *dir = path_share("kits"), *path = NULL, *file = NULL;

	if (strchr(name_or_path, '/') || strcmp(name_or_path, ".") == 0 ||
		strcmp(name_or_path, "..") == 0)
		return xstrdup(name_or_path);
	if (!spec_name_valid(name_or_path)) {
		err_set(err, ERR_USER, "%s: not a kit name", name_or_path);
		err_hint(err, "write ./%s for a directory", name_or_path);
		return NULL;
	}
	path = fs_join(dir, name_or_path);
	file = fs_join(path, "spec.yaml");
	if (fs_exists(file))
		return steal_ptr(&path);
	err_set(err, ERR_USER, "%s: no such kit", name_or_path);
	if (fs_exists(name_or_path))
		err_hint(err, "write ./%s for the directory", name_or_path);
	else
		err_hint(err, "kits are directories below %s, or your own by path", dir);
	return NULL;
}

int kit_validate(const char *path, FILE *out, struct err *err)
{
	struct kit_errors errs = {0};
	struct kit k;
	int rc = kit_load(path, &k, &errs, err);

	kit_errors_print(&errs, out);
	if (rc == 0) {
		fprintf(out, "%s: %s kit %s, schemaVersion %u: ok\n", k.file,
			k.kind == KIT_MIXIN ? "mixin" : "sandbox", k.name, k.schema);
		kit_done(&k);
	}
	kit_errors_done(&errs);
	return rc;
}

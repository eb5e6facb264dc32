/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a kit: the file, the fork on schemaVersion, the files tree. */
#include "kit/kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/near.h"
#include "base/paths.h"
#include "base/tree.h"
#include "kit/args.h"
#include "kit/grammar.h"
#include "wire/spec.h"

/* ---- the text ---- */

/* The grammar that the text asks for; 0 when it does not say (reported). */
static unsigned read_version(struct load *l, const struct ynode *root)
{
	static const char *const known[] = {"1", "2", "3"};
	const struct ynode *version;
	const char *s;
	char safe[32];

	if (!load_is_map(l, root))
		return 0;
	version = ynode_get(root, "schemaVersion");
	if (!version) {
		load_error(l, root, "schemaVersion is missing, expected schemaVersion: \"2\"");
		return 0;
	}
	s = load_scalar(l, version, "the string \"2\"");
	if (!s)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(s, known[i]) == 0)
			return i + 1;
	load_error(l, version, "\"%s\", expected \"1\", \"2\" or \"3\"",
		log_safe(safe, sizeof(safe), s, strlen(s)));
	return 0;
}

/* @text with every reference overwritten: all other places stay what they are. */
static char *mask_references(const char *text, size_t len)
{
	char *masked = xmalloc(len + 1);
	struct args_ref r;

	memcpy(masked, text, len);
	masked[len] = '\0';
	for (size_t at = 0; args_next_ref(text, len, at, &r); at = r.at + r.len)
		memset(masked + r.at, 'x', r.len);
	return masked;
}

/* The name of the kit, for --kit-arg NAME.x, before anything else is known of it. */
static void peek_name(const struct ynode *root, struct kit *k)
{
	const struct ynode *n = ynode_get(root, "name");

	if (!k->name && n && n->value && spec_name_valid(n->value))
		k->name = xstrdup(n->value);
}

/* All that the kit sets, as dotted paths, for the locks of what it extends. */
static void note_paths(struct kit *k, const struct ynode *n, unsigned depth)
{
	for (size_t i = 0; n->kind == YNODE_MAP && depth < 4 && i < n->n; i++) {
		strv_take(&k->says, ynode_path(n->items[i]));
		note_paths(k, n->items[i], depth + 1);
	}
}

static void load_tree(struct load *l, const struct ynode *root, struct kit *k)
{
	free(k->name);
	k->name = NULL;
	if (k->schema == 1)
		grammar1_load(l, root, k);
	else
		grammar2_load(l, root, k);
	kit_check(l, k);
	if (k->extends)
		note_paths(k, root, 0);
}

/* References in the args block would be replaced by themselves. */
static void check_self_reference(
	struct load *l, const struct ynode *root, const char *text, size_t len)
{
	const struct ynode *args = ynode_get(root, "args");
	struct args_ref r;
	int line = 1;
	size_t seen = 0;

	for (size_t at = 0; args && args_next_ref(text, len, at, &r); at = r.at + r.len) {
		bool inside;

		for (; seen < r.at; seen++)
			line += text[seen] == '\n';
		inside = line >= args->key_line;
		for (size_t i = 0; i < root->n; i++)
			if (root->items[i]->key_line > args->key_line &&
				root->items[i]->key_line <= line)
				inside = false;
		if (inside)
			load_error_key(l, args,
				"refers to an argument in line %d, expected plain "
				"values here",
				line);
	}
}

/* schemaVersion "1" and "2": @root was read from the masked text. */
static void load_text(struct load *l, struct ynode *root, const char *text, size_t len,
	struct kit_inputs *in, struct kit *k)
{
	const struct ynode *args = k->schema == 2 ? ynode_get(root, "args") : NULL;
	_buf_ struct buf out = {.max = ARGS_TEXT_MAX};
	struct args_map map = {0};
	struct args_ref r;
	struct ynode *real;
	size_t from;

	peek_name(root, k);
	if (args)
		load_args(l, args, k, NULL);
	args_resolve(l, args, k, in);
	if (!args_next_ref(text, len, 0, &r)) {
		load_tree(l, root, k);
		return;
	}
	check_self_reference(l, root, text, len);
	if (args_expand(l, text, len, k, &out, &map) < 0) {
		kit_errors_add(
			l->errs, false, l->file, 0, 0, "", "larger than 4 MiB with its arguments");
		args_map_done(&map);
		return;
	}
	from = l->errs->n;
	real = ynode_read(buf_head(&out), buf_len(&out), l->file, l->errs);
	if (real) {
		args_hide_placeholders(real);
		load_tree(l, real, k);
	}
	args_map_errors(
		l->errs, from, &map, (const char *)buf_head(&out), buf_len(&out), text, len);
	ynode_free(real);
	args_map_done(&map);
}

/* The kit's name is its file's, or its directory's. */
static void name_by_file(struct kit *k, const char *file)
{
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
	_free_ char *dir = slash ? xstrndup(file, (size_t)(slash - file)) : xstrdup("");
	_free_ char *name = NULL;

	if (strcmp(base, "spec.yaml") == 0) {
		slash = strrchr(dir, '/');
		name = xstrdup(slash ? slash + 1 : dir);
	} else {
		name = xstrndup(base, strcspn(base, "."));
	}
	k->name = xstrdup(spec_name_valid(name) ? name : "kit");
}

static void load_descriptor(
	struct load *l, const char *text, size_t len, struct kit_inputs *in, struct kit *k)
{
	struct ynode *root = ynode_read(text, len, l->file, l->errs);
	const struct ynode *args;

	if (!root)
		return;
	name_by_file(k, l->file);
	args = ynode_get(root, "args");
	if (args)
		load_args(l, args, k, NULL);
	args_resolve(l, args, k, in);
	args_expand_tree(l, root, k);
	grammar3_load(l, root, k);
	kit_check(l, k);
	ynode_free(root);
}

int kit_load_text(const char *text, size_t len, const char *file, struct kit_inputs *in,
	struct kit *ret, struct kit_errors *errs)
{
	size_t before = errs->n_errors;
	struct kit k = {.file = xstrdup(file)};
	struct kit_errors first = {0};
	struct load l = {.file = file, .errs = errs};
	_free_ char *masked = NULL;
	struct args_ref r;
	bool refers = args_next_ref(text, len, 0, &r);
	struct ynode *root;

	masked = refers ? mask_references(text, len) : NULL;
	root = ynode_read(refers ? masked : text, len, file, refers ? &first : errs);
	if (root) {
		k.schema = l.schema = read_version(&l, root);
		if (k.schema == 3)
			load_descriptor(&l, text, len, in, &k);
		else if (k.schema)
			load_text(&l, root, text, len, in, &k);
	} else if (refers) { /* what is no YAML with letters is none with values */
		ynode_free(ynode_read(masked, len, file, errs));
	}
	kit_errors_done(&first);
	ynode_free(root);
	kit_errors_sort(errs);
	if (errs->n_errors != before) {
		kit_done(&k);
		return -1;
	}
	*ret = k;
	return 0;
}

/* ---- the directory ---- */

/* NAME.yaml in a directory called NAME; NULL when that is not known. */
static char *same_named(const char *dir)
{
	_free_ char *real = realpath(dir, NULL);
	const char *name = real ? strrchr(real, '/') : NULL;

	return name && name[1] ? xasprintf("%s%s.yaml", dir, name) : NULL;
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
		if (!fs_exists(file)) { /* schemaVersion "3": a/b/NAME/NAME.yaml */
			_free_ char *same = same_named(path);

			if (same && fs_exists(same)) {
				free(file);
				file = steal_ptr(&same);
			}
		}
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

/* schemaVersion "3": instructions in a file of their own. */
static void read_instructions(struct kit *k, struct kit_errors *errs)
{
	_close_ int dir =
		k->instructions_file ? open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	_close_ int fd = -1;
	_buf_ struct buf text = {.max = YNODE_FILE_MAX};
	ssize_t n;

	if (!k->instructions_file)
		return;
	/* No link may lead to a file of the host's. */
	fd = dir < 0 ? -1 : tree_open(dir, k->instructions_file, O_RDONLY | O_NONBLOCK, 0);
	n = fd < 0 ? -1 : 1;
	while (n > 0)
		n = buf_read(&text, fd, 65536);
	if (n < 0)
		kit_errors_add(errs, true, k->file, 0, 0, "contentFile",
			"%s: %s; the agent gets none", k->instructions_file, strerror(errno));
	else
		k->instructions = xstrdup(buf_cstr(&text));
}

int kit_load(const char *path, struct kit_inputs *in, struct kit *ret, struct kit_errors *errs,
	struct err *err)
{
	_free_ char *dir = NULL, *file = NULL;
	size_t before = errs->n_errors, refused = errs->n_refused, found;
	struct kit k = {0};
	_buf_ struct buf text = {.max = YNODE_FILE_MAX};

	if (find_spec(path, &dir, &file, err) < 0)
		return -1;
	if (fs_read_file(AT_FDCWD, file, &text, err) < 0)
		return err_wrap(err, "kit %s", path);
	buf_cstr(&text); /* never NULL */
	if (kit_load_text((const char *)buf_head(&text), buf_len(&text), file, in, &k, errs) == 0) {
		k.dir = steal_ptr(&dir);
		read_instructions(&k, errs);
		kit_check_files(&k, errs);
	}
	found = errs->n_errors - before;
	if (found) {
		kit_done(&k);
		return err_set(err, errs->n_refused - refused == found ? ERR_REFUSED : ERR_USER,
			"kit %s: %zu error%s", path, found, found == 1 ? "" : "s");
	}
	*ret = k;
	return 0;
}

/* Below @dir is what comes with Hutch. */
static void hint_kits(const char *given, const char *dir, struct err *err)
{
	struct strv names = {0};
	DIR *d = opendir(dir);
	struct dirent *e;
	const char *near;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			strv_add(&names, e->d_name);
	if (d)
		closedir(d);
	near = near_word(given, &names);
	if (near)
		err_hint(err, "did you mean %s?", near);
	else
		err_hint(err, "kits are directories below %s, or your own by path", dir);
	strv_done(&names);
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
		hint_kits(name_or_path, dir, err);
	return NULL;
}

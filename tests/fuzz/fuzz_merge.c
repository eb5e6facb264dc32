/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of an image, as text (tests/unit/merge_text.h). Whatever they say: all names of the result
 * are different, each lies in a directory, none has ".." in it, and every inode is of the entry
 * that told it. Without links the result is that of a model which knows nothing but a list of
 * paths. */
#include <stdint.h>
#include <stdio.h>

#include "../unit/merge_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LAYERS    6
#define ENTRIES   64
#define INPUT_MAX 2048
#define FACTS     512

static void must(bool good)
{
	if (!good)
		abort();
}

/* ---- the model ---- */

struct fact {
	char *path;       /* owned */
	const char *what; /* a letter; 'd' alone: implied */
	unsigned layer, index, told;
};

struct model {
	struct fact f[FACTS];
	size_t n;
};

static bool below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !len || (strncmp(path, dir, len) == 0 && path[len] == '/');
}

static struct fact *find(struct model *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->f[i].path, path) == 0)
			return &m->f[i];
	return NULL;
}

static struct fact *put(struct model *m, const char *path, unsigned told)
{
	must(m->n < FACTS);
	m->f[m->n] = (struct fact){xstrdup(path), "", 0, 0, told};
	return &m->f[m->n++];
}

static void drop(struct model *m, size_t i)
{
	free(m->f[i].path);
	m->f[i] = m->f[--m->n];
}

/* Whether anything below @path was told by @layer. */
static bool holds(const struct model *m, const char *path, unsigned layer)
{
	for (size_t i = 0; i < m->n; i++)
		if (below(m->f[i].path, path) && m->f[i].told == layer)
			return true;
	return false;
}

/* What lower layers brought below @dir, and at it when @itself. */
static void hide(struct model *m, const char *dir, bool itself, unsigned layer)
{
	for (size_t i = m->n; i-- > 0;)
		if ((itself ? strcmp(m->f[i].path, dir) == 0 || (*dir && below(m->f[i].path, dir))
			    : below(m->f[i].path, dir)) &&
			m->f[i].told < layer && !holds(m, m->f[i].path, layer))
			drop(m, i);
}

/* "./a//b/" → "a/b" */
static char *plain(const char *path)
{
	char *out = xcalloc(1, strlen(path) + 2), *to = out;

	for (size_t len; *path; path += len + (path[len] == '/')) {
		len = strcspn(path, "/");
		if (!len || (len == 1 && *path == '.'))
			continue;
		if (to != out)
			*to++ = '/';
		memcpy(to, path, len);
		to += len;
	}
	return out;
}

static void tell(
	struct model *m, const char *path, const char *what, unsigned layer, unsigned index)
{
	struct fact *f;

	for (const char *at = path; (at = strchr(at, '/')); at++) {
		_free_ char *dir = xstrndup(path, (size_t)(at - path));

		if (!find(m, dir))
			put(m, dir, layer);
	}
	f = find(m, path);
	/* A directory over a directory keeps what is in it. */
	if (f && (*what != 'd' || (*f->what && *f->what != 'd')))
		for (size_t i = m->n; i-- > 0;)
			if (below(m->f[i].path, path))
				drop(m, i);
	f = find(m, path);
	if (!f)
		f = put(m, path, layer);
	*f = (struct fact){f->path, what, layer, index, layer};
}

static void model_add(struct model *m, const struct merge_entry *e, unsigned layer, unsigned index)
{
	static const char *const letters[] = {"d", "f", "l", "o"};
	_free_ char *path = plain(e->path), *gone = NULL;
	char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (strcmp(name, ".wh..wh..opq") == 0) {
		gone = xstrndup(path, slash ? (size_t)(slash - path) : 0);
		hide(m, gone, false, layer);
	} else if (strncmp(name, ".wh.", 4) == 0) {
		gone = xasprintf("%.*s%s", (int)(name - path), path, name + 4);
		if (strncmp(name, ".wh..wh.", 8) != 0)
			hide(m, gone, true, layer);
	} else if (*path) {
		tell(m, path, letters[e->type], layer, index);
	}
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void compare(struct model *m, const char *got)
{
	_buf_ struct buf want = {.max = 1u << 20};
	struct strv all = {0};

	for (size_t i = 0; i < m->n; i++) {
		if (*m->f[i].what)
			strv_addf(&all, "%s=%s%u.%u", m->f[i].path, m->f[i].what, m->f[i].layer,
				m->f[i].index);
		else
			strv_addf(&all, "%s=d", m->f[i].path);
		free(m->f[i].path);
	}
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), by_path);
	for (size_t i = 0; i < all.n; i++)
		buf_printf(&want, "%s%s", i ? " " : "", all.v[i]);
	must(strcmp(buf_cstr(&want), got) == 0);
	strv_done(&all);
}

/* ---- what holds always ---- */

static void check_name(struct merge *m, const struct merge_node *n, const struct merge_inode *i)
{
	char path[MERGE_PATH], *at;
	_free_ char *around = NULL;

	merge_path(n, path);
	must(*path && *path != '/' && strlen(path) < MERGE_PATH);
	around = xasprintf("/%s/", path);
	must(!strstr(around, "/../") && !strstr(around, "//") && !strstr(around, "/./"));
	if (i && merge_inode_type(i) != MERGE_SYMLINK)
		must(merge_find(m, path) == i);
	at = strrchr(path, '/');
	if (at) {
		*at = '\0';
		must(merge_inode_type(merge_find(m, path)) == MERGE_DIR);
	}
}

static void check_tree(struct merge *m, const enum merge_type told[LAYERS][ENTRIES])
{
	size_t names = 0;

	for (unsigned l = 0; l < LAYERS; l++) {
		for (unsigned e = 0; e < ENTRIES; e++) {
			const struct merge_inode *i = merge_at(m, l, e);
			const struct merge_node *n = i ? merge_first_name(i) : NULL;

			must(!i || (n && merge_inode_type(i) == told[l][e]));
			for (; n; n = merge_next_name(n), names++)
				check_name(m, n, i);
			must(!i || merge_inode_type(i) != MERGE_DIR ||
				!merge_next_name(merge_first_name(i)));
		}
	}
	for (size_t k = 0; merge_implied(m, k); k++, names++)
		check_name(m, merge_implied(m, k), NULL);
	must(names <= (size_t)LAYERS * ENTRIES * 128);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static enum merge_type told[LAYERS][ENTRIES];
	_free_ char *text = xstrndup((const char *)data, MIN(size, (size_t)INPUT_MAX));
	struct merge *m = merge_new(), *again = merge_new();
	struct model model = {.n = 0};
	bool links = false, good = true;
	unsigned layer = 0, index = 0;
	char *save = NULL;

	merge_begin_layer(m);
	merge_begin_layer(again);
	for (char *line = strtok_r(text, "\n", &save); line && good;
		line = strtok_r(NULL, "\n", &save)) {
		struct merge_entry e;

		if (strcmp(line, "-") == 0 && layer < LAYERS - 1) {
			merge_begin_layer(m);
			merge_begin_layer(again);
			layer++;
			index = 0;
		} else if (index < ENTRIES && merge_text_entry(line, &e)) {
			good = merge_add(m, &e, NULL) == 0;
			must((merge_add(again, &e, NULL) == 0) == good);
			links |= e.type == MERGE_SYMLINK || e.hardlink;
			if (good && !links && model.n < FACTS - 256)
				model_add(&model, &e, layer, index);
			else
				links = true;
			told[layer][index++] = e.type;
		}
	}
	merge_finish(m);
	check_tree(m, told);
	if (good && !links) {
		_buf_ struct buf got = {.max = 1u << 20};

		merge_finish(again);
		merge_text_dump(again, LAYERS, ENTRIES, &got);
		compare(&model, buf_cstr(&got));
		model.n = 0;
	}
	for (size_t i = 0; i < model.n; i++)
		free(model.f[i].path);
	merge_free(m);
	merge_free(again);
	return 0;
}

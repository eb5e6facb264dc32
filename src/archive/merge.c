/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of an image → one tree.
 *
 * The tree behaves as a directory does into which the layers are unpacked one after the other,
 * which is what images are made against:
 *
 * - an entry replaces what has its name; only a directory over a directory keeps what is in it;
 * - ".wh.NAME" removes NAME, ".wh..wh..opq" all of its directory, as far as lower layers brought
 * it, wherever in its own layer it stands: each name remembers the layer that told it last;
 * - a parent that is a symbolic link is followed, inside the tree; one that is missing is made;
 * - a hard link is a second name of an inode, and stays that when the first is replaced.
 *
 * Memory has ceilings, and so has the length of paths, which bounds the recursion. */
#include "archive/merge.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define HOPS_MAX 40    /* symbolic links in one path, as the kernel has it */
#define REST_MAX 16384 /* a path while links in it are followed */
#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"
#define AUFS     ".wh..wh." /* the bookkeeping of aufs, no part of an image */
#define IMPLIED  UINT32_MAX /* as a layer: nobody told it */

struct merge_inode {
	enum merge_type type;
	uint32_t layer, index;    /* the entry that it is from */
	uint32_t refs;            /* names */
	struct merge_node *names; /* after merge_finish */
	char *target;             /* owned */
};

/* A part of a path; not terminated. */
struct part {
	const char *p;
	size_t len;
};

struct merge_node {
	struct part name; /* first: nodes are compared as parts. p: owned */
	struct merge_node *parent, *child, *next, *prev;
	void *tree; /* tsearch: children by name */
	struct merge_inode *inode;
	struct merge_node *alias; /* the next name of the inode, after merge_finish */
	uint32_t layer;           /* that told this name last */
	uint32_t path_len;
};

struct merge {
	struct merge_node *root;
	uint32_t layers, index; /* of the entry to come */
	uint32_t n_entries, n_nodes;
	size_t text;
	const struct merge_inode **sorted;
	const struct merge_node **implied;
	size_t n_sorted, n_implied, at;
};

/* ---- nodes ---- */

static int compare(const void *a, const void *b)
{
	const struct part *x = a, *y = b;
	int order = memcmp(x->p, y->p, MIN(x->len, y->len));

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static struct merge_node *child(const struct merge_node *dir, struct part name)
{
	void *found = tfind(&name, &dir->tree, compare);

	return found ? *(struct merge_node **)found : NULL;
}

static int too_much(struct err *err, const char *what)
{
	return err_set(err, ERR_USER, "its layers have too many %s", what);
}

static int bad(struct err *err, const char *path, const char *what)
{
	char safe[200];

	return err_set(
		err, ERR_USER, "%s: %s", log_safe(safe, sizeof(safe), path, strlen(path)), what);
}

/* A new name for @inode, which gets a reference. */
static struct merge_node *add_node(struct merge *m, struct merge_node *dir, struct part name,
	struct merge_inode *inode, struct err *err)
{
	struct merge_node *n;

	if (name.len > 255 || dir->path_len + name.len + 1 >= MERGE_PATH) {
		err_set(err, ERR_USER, "a path of more than %d bytes", MERGE_PATH - 1);
		return NULL;
	}
	if (m->n_nodes >= MERGE_NODES_MAX || m->text + name.len > MERGE_TEXT_MAX) {
		too_much(err, "files");
		return NULL;
	}
	n = xcalloc(1, sizeof(*n));
	n->name = (struct part){xstrndup(name.p, name.len), name.len};
	n->parent = dir;
	n->inode = inode;
	n->layer = m->layers - 1;
	n->path_len = dir->path_len + (uint32_t)name.len + 1;
	n->next = dir->child;
	if (n->next)
		n->next->prev = n;
	dir->child = n;
	if (!tsearch(n, &dir->tree, compare))
		abort(); /* out of memory, as in xmalloc */
	inode->refs++;
	m->n_nodes++;
	m->text += name.len;
	return n;
}

static void put_inode(struct merge *m, struct merge_inode *i)
{
	if (--i->refs)
		return;
	m->text -= i->target ? strlen(i->target) : 0;
	free(i->target);
	free(i);
}

static void remove_tree(struct merge *m, struct merge_node *n)
{
	while (n->child)
		remove_tree(m, n->child);
	if (n->parent) {
		tdelete(n, &n->parent->tree, compare);
		if (n->prev)
			n->prev->next = n->next;
		else
			n->parent->child = n->next;
		if (n->next)
			n->next->prev = n->prev;
	}
	put_inode(m, n->inode);
	m->text -= n->name.len;
	m->n_nodes--;
	free((char *)(uintptr_t)n->name.p);
	free(n);
}

/* @n and all below it, as far as lower layers brought it. */
static void remove_lower(struct merge *m, struct merge_node *n, bool with_itself)
{
	for (struct merge_node *c = n->child, *next; c; c = next) {
		next = c->next;
		remove_lower(m, c, true);
	}
	if (with_itself && !n->child && n->layer < m->layers - 1)
		remove_tree(m, n);
}

static struct merge_inode *new_inode(struct merge *m, enum merge_type type, uint32_t layer)
{
	struct merge_inode *i = xcalloc(1, sizeof(*i));

	*i = (struct merge_inode){.type = type, .layer = layer, .index = m->index};
	return i;
}

struct merge *merge_new(void)
{
	struct merge *m = xcalloc(1, sizeof(*m));

	m->root = xcalloc(1, sizeof(*m->root));
	m->root->inode = new_inode(m, MERGE_DIR, IMPLIED);
	m->root->inode->refs = 1;
	m->n_nodes = 1;
	return m;
}

void merge_free(struct merge *m)
{
	if (!m)
		return;
	remove_tree(m, m->root);
	free(m->sorted);
	free(m->implied);
	free(m);
}

void merge_begin_layer(struct merge *m)
{
	m->layers++;
	m->index = 0;
}

/* ---- paths ---- */

/* The next part of *@rest, which moves behind it; len 0 at the end. */
static struct part next_part(const char **rest)
{
	struct part p = {*rest + strspn(*rest, "/"), 0};

	p.len = strcspn(p.p, "/");
	*rest = p.p + p.len;
	return p;
}

static bool is(struct part p, const char *text)
{
	return p.len == strlen(text) && memcmp(p.p, text, p.len) == 0;
}

static struct merge_node *make_dir(
	struct merge *m, struct merge_node *dir, struct part name, struct err *err)
{
	struct merge_inode *i = new_inode(m, MERGE_DIR, IMPLIED);
	struct merge_node *n = add_node(m, dir, name, i, err);

	if (!n)
		free(i);
	return n;
}

/* Follow @path from the top, links included. *ret: what is there, or NULL; with @make directories
 * are made, and anything else in the way is an error. */
static int walk(
	struct merge *m, const char *path, bool make, struct merge_node **ret, struct err *err)
{
	_free_ char *text = xstrdup(path);
	struct merge_node *at = m->root;
	const char *rest = text;
	struct part p;
	int hops = 0;

	*ret = NULL;
	while ((p = next_part(&rest)).len) {
		struct merge_node *n = is(p, ".") ? at : (is(p, "..") ? at->parent : child(at, p));

		if (is(p, "..") && !n)
			n = m->root;
		if (!n && make)
			n = make_dir(m, at, p, err);
		if (!n)
			return make ? -1 : 0;
		if (n->inode->type == MERGE_SYMLINK) {
			char *longer = xasprintf("%s/%s", n->inode->target, rest);

			at = *longer == '/' ? m->root : at;
			free(text);
			rest = text = longer;
			if (++hops > HOPS_MAX || strlen(longer) > REST_MAX)
				return bad(err, path, "too many symbolic links on the way");
			continue;
		}
		if (n->inode->type != MERGE_DIR && (make || next_part(&(const char *){rest}).len))
			return make ? bad(err, path,
					      "something lies below it, but it is no directory")
				    : 0;
		at = n;
	}
	*ret = at;
	return 0;
}

/* Split a path as a layer has it: the directory, "" for the top, owned, and the last part in it.
 * @ret_name is "" for the top itself. */
static int split(const char *path, char **ret_dir, char **ret_name, struct err *err)
{
	_free_ char *dir = xcalloc(1, strlen(path) + 2), *name = xstrdup("");
	const char *rest = path;
	char *to = dir;
	struct part p;

	while ((p = next_part(&rest)).len) {
		if (is(p, "."))
			continue;
		if (is(p, ".."))
			return bad(err, path, "a path with \"..\"");
		if (*name) {
			if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0)
				return bad(err, path, "lies below a whiteout");
			to = stpcpy(stpcpy(to, to == dir ? "" : "/"), name);
		}
		free(name);
		name = xstrndup(p.p, p.len);
	}
	*ret_dir = steal_ptr(&dir);
	*ret_name = steal_ptr(&name);
	return 0;
}

/* ---- entries ---- */

static int whiteout(
	struct merge *m, const char *path, const char *dir, const char *name, struct err *err)
{
	const char *gone = name + strlen(WHITEOUT);
	struct merge_node *at, *n;

	if (strncmp(name, AUFS, strlen(AUFS)) == 0 && strcmp(name, OPAQUE) != 0)
		return 0;
	if (!*gone || strcmp(gone, ".") == 0 || strcmp(gone, "..") == 0)
		return bad(err, path, "a whiteout of nothing");
	if (walk(m, dir, false, &at, err) < 0)
		return -1;
	if (!at || at->inode->type != MERGE_DIR)
		return 0;
	if (strcmp(name, OPAQUE) == 0) {
		remove_lower(m, at, false);
		return 0;
	}
	n = child(at, (struct part){gone, strlen(gone)});
	if (n)
		remove_lower(m, n, true);
	return 0;
}

/* The inode of the name that a hard link is to; the last part is not followed. */
static struct merge_inode *find_linked(
	struct merge *m, const char *path, const char *target, struct err *err)
{
	_free_ char *dir = NULL, *name = NULL;
	struct merge_node *at, *n = NULL;

	if (split(target, &dir, &name, err) < 0 || walk(m, dir, false, &at, err) < 0)
		return NULL;
	if (at && *name)
		n = child(at, (struct part){name, strlen(name)});
	if (n && n->inode->type != MERGE_DIR)
		return n->inode;
	bad(err, path, n ? "a hard link to a directory" : "a hard link to what is not there");
	return NULL;
}

static int set_entry(struct merge *m, struct merge_node *dir, const char *name,
	struct merge_inode *inode, struct err *err)
{
	struct part part = {name, strlen(name)};
	struct merge_node *n = child(dir, part);

	if (n && (n->inode == inode || (n->inode->type == MERGE_DIR && inode->type == MERGE_DIR))) {
		n->inode->layer = inode->layer;
		n->inode->index = inode->index;
		n->layer = m->layers - 1;
		return 0;
	}
	if (n)
		remove_tree(m, n);
	return add_node(m, dir, part, inode, err) ? 0 : -1;
}

static int add(struct merge *m, const struct merge_entry *e, struct err *err)
{
	_free_ char *dir = NULL, *name = NULL;
	struct merge_inode *inode;
	struct merge_node *at;
	int result;

	if (split(e->path, &dir, &name, err) < 0)
		return -1;
	if (!*name) /* the top is always there */
		return e->type == MERGE_DIR ? 0 : bad(err, e->path, "not a name");
	if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0)
		return whiteout(m, e->path, dir, name, err);
	inode = e->hardlink ? find_linked(m, e->path, e->hardlink, err)
			    : new_inode(m, e->type, m->layers - 1);
	if (!inode)
		return -1;
	inode->refs++; /* ours: replacing a name must not take it away */
	if (e->type == MERGE_SYMLINK && !e->hardlink) {
		inode->target = xstrdup(e->target);
		m->text += strlen(e->target);
	}
	result = walk(m, dir, true, &at, err);
	if (result == 0)
		result = set_entry(m, at, name, inode, err);
	put_inode(m, inode);
	return result;
}

int merge_add(struct merge *m, const struct merge_entry *e, struct err *err)
{
	int result;

	if (++m->n_entries > MERGE_ENTRIES_MAX)
		return too_much(err, "entries");
	if (e->type == MERGE_SYMLINK && !e->hardlink &&
		(!*e->target || strlen(e->target) >= MERGE_PATH))
		return bad(err, e->path, "a symbolic link to nothing, or too long a one");
	if (m->text + MERGE_PATH > MERGE_TEXT_MAX)
		return too_much(err, "names");
	result = add(m, e, err);
	m->index++;
	return result;
}

/* ---- the result ---- */

static void collect(struct merge *m, struct merge_node *n)
{
	struct merge_inode *i = n->inode;

	if (i->layer == IMPLIED && n->parent)
		m->implied[m->n_implied++] = n;
	if (i->layer != IMPLIED && !i->names)
		m->sorted[m->n_sorted++] = i;
	n->alias = i->names;
	i->names = n;
	for (struct merge_node *c = n->child; c; c = c->next)
		collect(m, c);
}

static int by_entry(const void *a, const void *b)
{
	const struct merge_inode *x = *(const struct merge_inode *const *)a;
	const struct merge_inode *y = *(const struct merge_inode *const *)b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

void merge_finish(struct merge *m)
{
	m->sorted = xcalloc(m->n_nodes, sizeof(*m->sorted));
	m->implied = xcalloc(m->n_nodes, sizeof(*m->implied));
	collect(m, m->root);
	qsort(m->sorted, m->n_sorted, sizeof(*m->sorted), by_entry);
}

const struct merge_inode *merge_at(struct merge *m, unsigned layer, uint32_t index)
{
	struct merge_inode key = {.layer = layer, .index = index};
	const struct merge_inode *k = &key;

	while (m->at < m->n_sorted && by_entry(&m->sorted[m->at], &k) < 0)
		m->at++;
	return m->at < m->n_sorted && by_entry(&m->sorted[m->at], &k) == 0 ? m->sorted[m->at]
									   : NULL;
}

enum merge_type merge_inode_type(const struct merge_inode *i)
{
	return i->type;
}

const struct merge_node *merge_first_name(const struct merge_inode *i)
{
	return i->names;
}

const struct merge_node *merge_next_name(const struct merge_node *n)
{
	return n->alias;
}

const struct merge_node *merge_implied(const struct merge *m, size_t i)
{
	return i < m->n_implied ? m->implied[i] : NULL;
}

void merge_path(const struct merge_node *n, char ret[static MERGE_PATH])
{
	size_t at = n->path_len ? n->path_len - 1 : 0;

	ret[at] = '\0';
	for (; n->parent; n = n->parent) {
		at -= n->name.len;
		memcpy(ret + at, n->name.p, n->name.len);
		if (at)
			ret[--at] = '/';
	}
}

const struct merge_inode *merge_find(struct merge *m, const char *path)
{
	struct merge_node *n;

	return walk(m, path, false, &n, NULL) == 0 && n ? n->inode : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From references to the kits of one sandbox: extends, mixins, --kit. */
#include <string.h>

#include "base/fs.h"
#include "kit/kit.h"

#define EXTENDS_MAX 5
#define KITS_MAX    256

struct loading {
	struct kit_set set;
	struct kit_inputs *in;
	struct kit_errors *errs;
	struct err *err;
	struct strv dirs; /* of set.kits: directory and file */
	bool failed;      /* some kit had errors; the others are still looked at */
};

static bool is_remote(const char *ref)
{
	return strncmp(ref, "oci://", 6) == 0 || strncmp(ref, "git+", 4) == 0;
}

/* A reference of a kit: relative directories are relative to that kit. */
static char *locate(const char *ref, const struct kit *from, struct err *err)
{
	if (is_remote(ref)) {
		err_set(err, ERR_USER, "%s: kits from elsewhere are not supported yet", ref);
		err_hint(err, "fetch it and name the directory");
		return NULL;
	}
	if (from && from->dir && ref[0] != '/' && strchr(ref, '/'))
		return fs_join(from->dir, ref);
	return kit_locate(ref, err);
}

/* The first message stays: later ones say how many errors. */
static int fail(struct loading *g, const struct err *e)
{
	if (!g->failed)
		*g->err = *e;
	g->failed = true;
	return -1;
}

/* Load one kit behind the others. *ret_known: it is there already, nothing was done. */
static int add(struct loading *g, const char *ref, const struct kit *from, bool *ret_known)
{
	_free_ char *path = NULL, *key = NULL;
	struct err e = {0};
	struct kit k;

	*ret_known = false;
	path = locate(ref, from, &e);
	if (!path)
		return fail(g, &e);
	if (g->set.n == KITS_MAX) {
		err_set(&e, ERR_USER, "more than %d kits", KITS_MAX);
		return fail(g, &e);
	}
	if (kit_load(path, g->in, &k, g->errs, &e) < 0)
		return fail(g, &e);
	key = xasprintf("%s %s", k.dir, k.name);
	if (from && strv_has(&g->dirs, key)) {
		*ret_known = true;
		kit_done(&k);
		return 0;
	}
	strv_add(&g->dirs, key);
	g->set.kits = xrealloc(g->set.kits, g->set.n + 1, sizeof(*g->set.kits));
	g->set.kits[g->set.n++] = k;
	return 0;
}

/* What the kit at the end extends, and so on, behind it: the base first, the root last. */
static int add_parents(struct loading *g)
{
	for (unsigned level = 1; g->set.kits[g->set.n - 1].extends; level++) {
		const struct kit *child = &g->set.kits[g->set.n - 1];
		_free_ char *name = xstrdup(child->name);
		struct err e = {0};
		bool known;

		if (level > EXTENDS_MAX) {
			err_set(&e, ERR_USER, "kit %s: extends %s, the level above %d", name,
				child->extends, EXTENDS_MAX);
			return fail(g, &e);
		}
		if (add(g, child->extends, child, &known) < 0)
			return -1;
		if (known) {
			err_set(&e, ERR_USER, "kit %s: extends %s, which extends it, in a circle",
				name, g->set.kits[g->set.n - 1].extends);
			return fail(g, &e);
		}
		g->set.kits[g->set.n - 1].is_parent = true;
		if (g->set.kits[g->set.n - 1].kind != KIT_SANDBOX) {
			err_set(&e, ERR_USER, "kit %s: extends %s, which is a mixin", name,
				g->set.kits[g->set.n - 1].name);
			return fail(g, &e);
		}
	}
	return 0;
}

/* The base was first and its root last: turn that around. */
static void reverse(struct kit_set *set)
{
	for (size_t i = 0; i < set->n / 2; i++) {
		struct kit k = set->kits[i];

		set->kits[i] = set->kits[set->n - 1 - i];
		set->kits[set->n - 1 - i] = k;
	}
}

static void add_mixins(struct loading *g)
{
	size_t chain = g->set.n;

	for (size_t i = 0; i < chain; i++) {
		struct strv refs = {0};

		strv_copy(&refs, &g->set.kits[i].mixins);
		for (size_t m = 0; m < refs.n; m++) {
			size_t before = g->set.n;
			struct err e = {0};
			bool known;

			add(g, refs.v[m], &g->set.kits[i], &known);
			if (g->set.n == before || g->set.kits[before].kind == KIT_MIXIN)
				continue;
			err_set(&e, ERR_USER, "kit %s: lists %s as a mixin, which is none",
				g->set.kits[i].name, g->set.kits[before].name);
			fail(g, &e);
		}
		strv_done(&refs);
	}
}

static void load_all(struct loading *g, const struct strv *refs)
{
	bool known;

	if (add(g, refs->v[0], NULL, &known) == 0 && add_parents(g) == 0) {
		reverse(&g->set);
		add_mixins(g);
	}
	for (size_t i = 1; i < refs->n; i++)
		add(g, refs->v[i], NULL, &known);
}

int kit_set_load(const struct strv *refs, struct kit_inputs *in, struct kit_set *ret,
	struct kit_errors *errs, struct err *err)
{
	struct err e = {0};
	struct loading g = {.in = in, .errs = errs, .err = &e};
	size_t n_three = 0;

	load_all(&g, refs);
	strv_done(&g.dirs);
	for (size_t i = 0; i < g.set.n; i++)
		n_three += g.set.kits[i].schema == 3;
	if (!g.failed && n_three && n_three < g.set.n) {
		err_set(&e, ERR_USER, "kits of schemaVersion \"3\" do not combine with others");
		g.failed = true;
	}
	if (!g.failed && n_three && kit_resolve(g.set.kits, g.set.n, &e) < 0)
		g.failed = true;
	if (!g.failed && in && kit_inputs_check_used(in, &e) < 0)
		g.failed = true;
	if (g.failed) {
		kit_set_done(&g.set);
		if (err)
			*err = e;
		return -1;
	}
	*ret = g.set;
	return 0;
}

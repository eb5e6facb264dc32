/* SPDX-License-Identifier: Apache-2.0 */
/* From references to the kits of one sandbox: extends, mixins, --kit. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "kit/kit.h"

#define EXTENDS_MAX 5
#define KITS_MAX    256

struct loading {
	struct kit_set set;
	struct kit_inputs *in;
	const struct kit_finder *finder;
	struct kit_errors *errs;
	struct err *err;
	struct strv dirs; /* of set.kits: directory and file */
	bool failed;      /* some kit had errors; the others are still looked at */
};

/* A kit from elsewhere names what came with it, what comes with Hutch, or what is elsewhere. */
static int stay_inside(char **path, const struct kit *from, struct err *err)
{
	_free_ char *real = realpath(*path, NULL), *root = realpath(from->root, NULL);
	size_t len = root ? strlen(root) : 0;

	if (!real || !root || strncmp(real, root, len) != 0 || (real[len] && real[len] != '/'))
		return err_set(err, ERR_USER, "kit %s: %s is not a part of what was fetched",
			from->name, *path);
	free(*path);
	*path = steal_ptr(&real);
	return 0;
}

/* What comes with a fetched kit is from where that is from. */
static int place_beside(const struct kit *from, struct kit_place *ret, struct err *err)
{
	if (stay_inside(&ret->path, from, err) < 0)
		return -1;
	ret->root = xstrdup(from->root);
	ret->pin = xstrdup(from->pin);
	ret->digest = xstrdup(from->digest);
	ret->source = from->source ? xstrdup(from->source) : NULL;
	return 0;
}

/* A reference of a kit: relative directories are relative to that kit. */
static int locate(const struct loading *g, const char *ref, const struct kit *from,
	struct kit_place *ret, struct err *err)
{
	int found = g->finder ? g->finder->find(g->finder->arg, ref, from, ret, err) : 1;

	if (found <= 0)
		return found;
	if (strncmp(ref, "oci://", 6) == 0 || strncmp(ref, "git+", 4) == 0)
		return err_set(
			err, ERR_USER, "%s: kits from elsewhere are not looked for here", ref);
	if (from && from->dir && ref[0] != '/' && strchr(ref, '/'))
		ret->path = fs_join(from->dir, ref);
	else
		ret->path = kit_locate(ref, err);
	if (!ret->path)
		return -1;
	return from && from->root && strchr(ref, '/') ? place_beside(from, ret, err) : 0;
}

void kit_place_done(struct kit_place *p)
{
	free(p->path);
	free(p->root);
	free(p->pin);
	free(p->digest);
	free(p->source);
	*p = (struct kit_place){0};
}

/* The kit is where @p says. */
static void take_place(struct kit *k, struct kit_place *p)
{
	k->root = steal_ptr(&p->root);
	k->pin = steal_ptr(&p->pin);
	k->digest = steal_ptr(&p->digest);
	k->source = steal_ptr(&p->source);
	/* schemaVersion "3": what carries the descriptor is the image itself. */
	if (k->schema == 3 && k->kind == KIT_SANDBOX && k->pin && !k->sandbox.image &&
		strncmp(k->pin, "oci://", 6) == 0)
		k->sandbox.image = xstrdup(k->pin);
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
	struct kit_place place = {0};
	_free_ char *key = NULL;
	struct err e = {0};
	struct kit k;
	int result;

	*ret_known = false;
	if (g->set.n == KITS_MAX) {
		err_set(&e, ERR_USER, "more than %d kits", KITS_MAX);
		return fail(g, &e);
	}
	result = locate(g, ref, from, &place, &e);
	if (result == 0)
		result = kit_load(place.path, g->in, &k, g->errs, &e);
	if (result == 0)
		take_place(&k, &place);
	kit_place_done(&place);
	if (result < 0)
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

/* ---- sets of schemaVersion "3" ---- */

/* "oci://HOST/NAME:TAG", or by digest without the tag; owned. */
static char *member_ref(const struct kit_member *m)
{
	const char *slash = strrchr(m->ref, '/'), *tag = strchr(slash ? slash : m->ref, ':');
	const char *at = strchr(m->ref, '@');
	size_t len = at ? (size_t)(at - m->ref) : (tag ? (size_t)(tag - m->ref) : strlen(m->ref));

	return m->digest ? xasprintf("oci://%.*s@%s", (int)len, m->ref, m->digest)
			 : xasprintf("oci://%s", m->ref);
}

/* What the set says of its kits' arguments; what the user says counts for more. */
static void add_member_args(struct kit_inputs *in, const struct kit_member *m)
{
	const char *slash = strrchr(m->ref, '/'), *name = slash ? slash + 1 : m->ref;

	for (size_t i = 0; in && i < m->args.n; i++) {
		const char *arg = m->args.v[i], *eq = strchr(arg, '=');

		in->v = xrealloc(in->v, in->n + 1, sizeof(*in->v));
		in->v[in->n] = (struct kit_input){.kit = xstrndup(name, strcspn(name, ":@")),
			.name = xstrndup(arg, (size_t)(eq - arg)),
			.value = xstrdup(eq + 1),
			.from_file = true};
		in->n++;
	}
}

/* The kits of the set at @at, behind it. What the set says besides is a mixin like them. */
static int add_members(struct loading *g, size_t at)
{
	for (size_t i = 0; i < g->set.kits[at].n_members; i++) {
		_free_ char *ref = member_ref(&g->set.kits[at].members[i]);
		size_t before = g->set.n;
		struct err e = {0};
		struct kit from;
		bool known;

		add_member_args(g->in, &g->set.kits[at].members[i]);
		from = g->set.kits[at]; /* the list may move */
		if (add(g, ref, &from, &known) < 0)
			return -1;
		if (!known && g->set.kits[before].schema == 3 && g->set.kits[before].kind == KIT_SET) {
			err_set(&e, ERR_USER, "kit %s: lists %s, which is a set itself", from.name,
				g->set.kits[before].name);
			return fail(g, &e);
		}
	}
	g->set.kits[at].kind = KIT_MIXIN;
	free(g->set.kits[at].recipe);
	g->set.kits[at].recipe = NULL;
	return 0;
}

static int add_sets(struct loading *g)
{
	size_t n = g->set.n;

	for (size_t i = 0; i < n; i++)
		if (g->set.kits[i].schema == 3 && g->set.kits[i].kind == KIT_SET && g->finder &&
			add_members(g, i) < 0)
			return -1;
	return 0;
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
	if (!g->failed)
		add_sets(g);
}

int kit_set_load(const struct strv *refs, struct kit_inputs *in, const struct kit_finder *finder,
	struct kit_set *ret, struct kit_errors *errs, struct err *err)
{
	struct err e = {0};
	struct loading g = {.in = in, .finder = finder, .errs = errs, .err = &e};
	size_t n_three = 0;

	load_all(&g, refs);
	strv_done(&g.dirs);
	for (size_t i = 0; i < g.set.n; i++)
		n_three += g.set.kits[i].schema == 3;
	if (!g.failed && n_three && n_three < g.set.n) {
		err_set(&e, ERR_REFUSED, "kits of schemaVersion \"3\" do not combine with others");
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

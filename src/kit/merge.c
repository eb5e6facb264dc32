/* SPDX-License-Identifier: Apache-2.0 */
/* Which kits may share a sandbox. How their parts add up is the plan's business (plan_kits.c). */
#include "kit/kit.h"

#include <string.h>

/* In the same phase, where kits tell phases apart. */
static bool owns_service(const struct kit *k, const struct kit_credential *c)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *o = &k->credentials[i];

		if (!o->adds && strcmp(o->service, c->service) == 0 &&
			(!o->phase || !c->phase || (o->phase & c->phase)))
			return true;
	}
	return false;
}

static int check_pair(const struct kit *a, const struct kit *b, struct err *err)
{
	bool family = a->is_parent && b->kind == KIT_SANDBOX;

	if (strcmp(a->name, b->name) == 0)
		return err_set(
			err, ERR_USER, "kit %s: given twice, or another kit has its name", b->name);
	/* A child says anew what its parent said. */
	for (size_t i = 0; i < b->n_credentials && !family; i++)
		if (!b->credentials[i].adds && owns_service(a, &b->credentials[i]))
			return err_set(err, ERR_USER,
				"kit %s: service %s already belongs to kit %s", b->name,
				b->credentials[i].service, a->name);
	return 0;
}

const struct kit *kit_base(const struct kit *kits, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (kits[i].kind == KIT_SANDBOX && !kits[i].is_parent)
			return &kits[i];
	return NULL;
}

/* Whether @k says something about @path, or below it. */
static const char *says(const struct kit *k, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < k->says.n; i++)
		if (strncmp(k->says.v[i], path, len) == 0 &&
			(!k->says.v[i][len] || k->says.v[i][len] == '.'))
			return k->says.v[i];
	return NULL;
}

static int check_locks(const struct kit *parent, const struct kit *child, struct err *err)
{
	for (size_t i = 0; i < parent->locked.n; i++) {
		const char *path = says(child, parent->locked.v[i]);

		if (path)
			return err_set(err, ERR_USER, "kit %s: sets %s, which kit %s has locked",
				child->name, path, parent->name);
	}
	return 0;
}

static bool fits_agent(const struct kit *kits, size_t n, const char *agent)
{
	for (size_t i = 0; i < n; i++)
		if (kits[i].kind == KIT_SANDBOX && strcmp(kits[i].name, agent) == 0)
			return true;
	return false;
}

static int check_one(
	const struct kit *kits, size_t n, const struct kit *base, size_t at, struct err *err)
{
	const struct kit *k = &kits[at];

	if (k->kind == KIT_SANDBOX && k != base && !k->is_parent)
		return err_set(err, ERR_USER, "kit %s: a second sandbox kit, %s is one already",
			k->name, base->name);
	if (k->requires_agent && !fits_agent(kits, n, k->requires_agent))
		return err_set(err, ERR_USER, "kit %s: made for agent %s, not for %s", k->name,
			k->requires_agent, base->name);
	for (size_t p = 0; p < at; p++)
		if (check_pair(&kits[p], k, err) < 0 ||
			(kits[p].is_parent && k->kind == KIT_SANDBOX &&
				check_locks(&kits[p], k, err) < 0))
			return -1;
	return 0;
}

int kit_check_set(const struct kit *kits, size_t n, struct err *err)
{
	const struct kit *base = kit_base(kits, n);
	bool image = false;

	if (!base) {
		if (n == 0)
			return err_set(err, ERR_USER, "no kit given");
		err_set(err, ERR_USER, "kit %s: a mixin, a sandbox kit is needed to run it on",
			kits[0].name);
		return err_hint(err, "hutch run --kit %s shell",
			kits[0].pin ? kits[0].pin : (kits[0].dir ? kits[0].dir : "DIR"));
	}
	for (size_t i = 0; i < n; i++) {
		image = image || kits[i].sandbox.image;
		if (check_one(kits, n, base, i, err) < 0)
			return -1;
	}
	if (!image)
		return err_set(err, ERR_USER,
			"kit %s: neither it nor what it extends says which image to use",
			base->name);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": whether kits fit together, and in which order they apply.
 *
 * A closed-set check, no solver: every requirement must be met by a kit that is there. Providers
 * come before those that require (or integrate with) them; where that leaves a choice, kits keep
 * the order of the command line, the workload first. */
#include <string.h>

#include "kit/kit.h"

/* One segment: numbers as numbers, before words. */
static int compare_segment(const char *a, size_t na, const char *b, size_t nb)
{
	bool num_a = strspn(a, "0123456789") >= na, num_b = strspn(b, "0123456789") >= nb;
	int c;

	if (num_a != num_b)
		return num_a ? -1 : 1;
	if (num_a) {
		for (; na > 1 && *a == '0'; na--)
			a++;
		for (; nb > 1 && *b == '0'; nb--)
			b++;
		if (na != nb)
			return na < nb ? -1 : 1;
	}
	c = memcmp(a, b, na < nb ? na : nb);
	return c ? c : (na > nb) - (na < nb);
}

static int compare_versions(const char *a, const char *b)
{
	while (*a || *b) {
		size_t na = strcspn(a, "."), nb = strcspn(b, ".");
		int c = !*a ? -1 : (!*b ? 1 : compare_segment(a, na, b, nb));

		if (c)
			return c;
		a += na + (a[na] == '.');
		b += nb + (b[nb] == '.');
	}
	return 0;
}

static bool satisfies(const char *version, const struct kit_relation *r)
{
	for (size_t i = 0; i < r->n_bounds; i++) {
		int c = version ? compare_versions(version, r->bounds[i].version) : 0;
		bool ok = false;

		switch (r->bounds[i].op) {
		case KIT_OP_EQ:
			ok = c == 0;
			break;
		case KIT_OP_GE:
			ok = c >= 0;
			break;
		case KIT_OP_GT:
			ok = c > 0;
			break;
		case KIT_OP_LE:
			ok = c <= 0;
			break;
		case KIT_OP_LT:
			ok = c < 0;
			break;
		}
		if (!version || !ok) /* no version meets no bound */
			return false;
	}
	return true;
}

static const char *short_name(const char *name)
{
	return strncmp(name, "com.docker.kit/", 15) == 0 ? name + 15 : name;
}

static const char *provided_version(const struct kit *k, const struct kit_relation *p)
{
	return p->version ? p->version : k->version;
}

/* Which kit provides @name; -1: none. */
static long provider(
	const struct kit *kits, size_t n, const char *name, const struct kit_relation **ret)
{
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m < kits[i].n_provides; m++)
			if (strcmp(kits[i].provides[m].name, name) == 0) {
				*ret = &kits[i].provides[m];
				return (long)i;
			}
	return -1;
}

static int check_needs(const struct kit *kits, size_t n, const struct kit *k,
	const struct kit_relation *needs, size_t n_needs, bool must, struct err *err)
{
	for (size_t i = 0; i < n_needs; i++) {
		const struct kit_relation *p = NULL;
		long at = provider(kits, n, needs[i].name, &p);
		const char *version = at < 0 ? NULL : provided_version(&kits[at], p);

		if (at < 0 && must) {
			err_set(err, ERR_REFUSED, "kit %s: requires %s, which no kit here provides",
				k->name, short_name(needs[i].name));
			return err_hint(err, "add a kit that provides it");
		}
		if (at >= 0 && !satisfies(version, &needs[i]))
			return err_set(err, ERR_REFUSED, "kit %s: does not work with %s %s of kit %s",
				k->name, short_name(needs[i].name),
				version ? version : "without a version", kits[at].name);
	}
	return 0;
}

static int check_kit(const struct kit *kits, size_t n, const struct kit *k, struct err *err)
{
	for (size_t i = 0; i < k->n_conflicts; i++) {
		const struct kit_relation *p = NULL;
		long at = provider(kits, n, k->conflicts[i].name, &p);

		if (at >= 0)
			return err_set(err, ERR_REFUSED,
				"kit %s: conflicts with %s, which kit %s provides", k->name,
				short_name(k->conflicts[i].name), kits[at].name);
	}
	for (size_t i = 0; i < k->n_provides; i++) {
		const struct kit_relation *p = NULL;
		long at = provider(kits, n, k->provides[i].name, &p);

		if (at >= 0 && &kits[at] != k)
			return err_set(err, ERR_REFUSED, "kit %s: provides %s, as kit %s does",
				k->name, short_name(k->provides[i].name), kits[at].name);
	}
	if (check_needs(kits, n, k, k->requires, k->n_requires, true, err) < 0)
		return -1;
	return check_needs(kits, n, k, k->integrates, k->n_integrates, false, err);
}

static bool waits(const struct kit *kits, size_t n, const bool *placed, size_t at)
{
	const struct kit *k = &kits[at];
	const struct kit_relation *lists[] = {k->requires, k->integrates};
	size_t counts[] = {k->n_requires, k->n_integrates};

	for (size_t l = 0; l < 2; l++)
		for (size_t i = 0; i < counts[l]; i++) {
			const struct kit_relation *p = NULL;
			long by = provider(kits, n, lists[l][i].name, &p);

			if (by >= 0 && (size_t)by != at && !placed[by])
				return true;
		}
	return false;
}

/* Take the first that waits for nobody, again and again. */
static int sort(struct kit *kits, size_t n, struct err *err)
{
	_free_ bool *placed = xcalloc(n, sizeof(*placed));
	_free_ struct kit *out = xcalloc(n, sizeof(*out));

	for (size_t k = 0; k < n; k++) {
		size_t pick = n;

		for (size_t i = 0; i < n && pick == n; i++)
			if (!placed[i] && kits[i].kind != KIT_MIXIN && !waits(kits, n, placed, i))
				pick = i;
		for (size_t i = 0; i < n && pick == n; i++)
			if (!placed[i] && !waits(kits, n, placed, i))
				pick = i;
		for (size_t i = 0; i < n && pick == n; i++)
			if (!placed[i])
				return err_set(err, ERR_REFUSED,
					"kit %s: requires what requires it, in a circle",
					kits[i].name);
		placed[pick] = true;
		out[k] = kits[pick];
	}
	memcpy(kits, out, n * sizeof(*out));
	return 0;
}

int kit_resolve(struct kit *kits, size_t n, struct err *err)
{
	const struct kit *workload = NULL;

	for (size_t i = 0; i < n; i++) {
		if (kits[i].kind == KIT_SET)
			return err_set(err, ERR_REFUSED,
				"kit %s: a set, which becomes a kit when it is published",
				kits[i].name);
		if (kits[i].kind == KIT_SANDBOX && workload)
			return err_set(err, ERR_REFUSED,
				"kit %s: a second workload, %s is one already", kits[i].name,
				workload->name);
		if (kits[i].kind == KIT_SANDBOX)
			workload = &kits[i];
	}
	if (!workload)
		return err_set(err, ERR_REFUSED, "kit %s: a mixin, a workload is needed to run it on",
			n ? kits[0].name : "");
	for (size_t i = 0; i < n; i++)
		if (check_kit(kits, n, &kits[i], err) < 0)
			return -1;
	return sort(kits, n, err);
}

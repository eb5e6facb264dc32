/* SPDX-License-Identifier: Apache-2.0 */
/* Which kits may share a sandbox. How their parts add up is the plan's business (plan_kits.c). */
#include "kit/kit.h"

#include <string.h>

static bool owns_service(const struct kit *k, const char *service)
{
	for (size_t i = 0; i < k->n_credentials; i++)
		if (strcmp(k->credentials[i].service, service) == 0)
			return true;
	return false;
}

static int check_pair(const struct kit *a, const struct kit *b, struct err *err)
{
	if (strcmp(a->name, b->name) == 0)
		return err_set(
			err, ERR_USER, "kit %s: given twice, or another kit has its name", b->name);
	for (size_t i = 0; i < b->n_credentials; i++)
		if (owns_service(a, b->credentials[i].service))
			return err_set(err, ERR_USER,
				"kit %s: service %s already belongs to kit %s", b->name,
				b->credentials[i].service, a->name);
	return 0;
}

const struct kit *kit_base(const struct kit *kits, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (kits[i].kind == KIT_SANDBOX)
			return &kits[i];
	return NULL;
}

int kit_check_set(const struct kit *kits, size_t n, struct err *err)
{
	const struct kit *base = kit_base(kits, n);

	if (!base) {
		if (n == 0)
			return err_set(err, ERR_USER, "no kit given");
		err_set(err, ERR_USER, "kit %s: a mixin, a sandbox kit is needed to run it on",
			kits[0].name);
		return err_hint(err, "hutch run --kit %s shell", kits[0].dir ? kits[0].dir : "DIR");
	}
	for (size_t i = 0; i < n; i++) {
		const struct kit *k = &kits[i];

		if (k->kind == KIT_SANDBOX && k != base)
			return err_set(err, ERR_USER,
				"kit %s: a second sandbox kit, %s is one already", k->name,
				base->name);
		if (k->requires_agent && strcmp(k->requires_agent, base->name) != 0)
			return err_set(err, ERR_USER, "kit %s: made for agent %s, not for %s",
				k->name, k->requires_agent, base->name);
		for (size_t p = 0; p < i; p++)
			if (check_pair(&kits[p], k, err) < 0)
				return -1;
	}
	return 0;
}

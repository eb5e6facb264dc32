/* SPDX-License-Identifier: Apache-2.0 */
/* The record of what was selected of kits of schemaVersion "3". */
#include <string.h>

#include "kit/grammar.h"
#include "kit/plan_parts.h"

static struct spec_selection *add(
	struct box_spec *s, const struct kit *k, const struct kit_capability *c)
{
	struct spec_selection *to;

	s->selection = xrealloc(s->selection, s->n_selection + 1, sizeof(*s->selection));
	to = &s->selection[s->n_selection++];
	*to = (struct spec_selection){.kit = xstrdup(k->name),
		.path = xasprintf("capabilities[%zu]", c->item),
		.optional = c->optional};
	return to;
}

void plan_add_selection(struct box_spec *s, const struct kit *k)
{
	struct spec_selection *to = NULL;

	for (size_t i = 0; i < k->n_capabilities; i++) {
		const struct kit_capability *c = &k->capabilities[i];
		const struct capability_type *t = capability_find(c->type);
		const char *member;

		if (!i || c->group < 0 || c->group != k->capabilities[i - 1].group)
			to = add(s, k, c);
		strv_add(&to->types, c->type);
		if (c->group < 0)
			strv_add(&to->members, to->path);
		else
			strv_addf(&to->members, "%s.group.capabilities[%zu]", to->path, c->member);
		member = to->members.v[to->members.n - 1];
		if (c->skipped && (!t || t->unavailable))
			strv_add(&to->rejected, member);
	}
}

int plan_reject(struct box_spec *s, const struct kit *k, const char *type, struct err *err)
{
	for (size_t i = 0; i < s->n_selection; i++) {
		struct spec_selection *r = &s->selection[i];

		for (size_t m = 0; m < r->types.n && strcmp(r->kit, k->name) == 0; m++) {
			if (strcmp(r->types.v[m], type) != 0 ||
				strv_has(&r->rejected, r->members.v[m]))
				continue;
			if (strcmp(r->members.v[m], r->path) != 0)
				return err_set(err, ERR_REFUSED,
					"kit %s: %s, which Hutch cannot give, belongs to a group "
					"(%s)",
					k->name, type, r->path);
			strv_add(&r->rejected, r->members.v[m]);
		}
	}
	return 0;
}

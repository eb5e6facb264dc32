/* SPDX-License-Identifier: Apache-2.0 */
/* Layers as text, for tests of the merge: one entry a line, "-" between layers.
 *
 *	d PATH    f PATH    o PATH    l PATH>TARGET    h PATH>TARGET
 *
 * A line that has another form is skipped. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "archive/merge.h"
#include "base/buf.h"
#include "base/mem.h"

/* @line is cut apart. False: no entry. */
static bool merge_text_entry(char *line, struct merge_entry *ret)
{
	static const char letters[] = "dflo"; /* in the order of enum merge_type */
	char *target = strchr(line, '>');
	const char *at = *line ? strchr(letters, *line) : NULL;

	if ((!at && *line != 'h') || line[1] != ' ')
		return false;
	*ret = (struct merge_entry){
		.path = line + 2, .type = at ? (enum merge_type)(at - letters) : MERGE_FILE};
	if (*line != 'l' && *line != 'h')
		return true;
	if (!target)
		return false;
	*target = '\0';
	*(*line == 'l' ? &ret->target : &ret->hardlink) = target + 1;
	return true;
}

/* All of @text (cut apart) into @m; -1 at the first error. */
static inline int merge_text(struct merge *m, char *text, struct err *err)
{
	struct merge_entry e;
	char *save = NULL;

	merge_begin_layer(m);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strcmp(line, "-") == 0)
			merge_begin_layer(m);
		else if (merge_text_entry(line, &e) && merge_add(m, &e, err) < 0)
			return -1;
	}
	return 0;
}

static int merge_text_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is in the tree, sorted: "a=f0.1 b/=d" (layer and index of the entry; none: implied). */
static inline void merge_text_dump(struct merge *m, unsigned layers, uint32_t entries, struct buf *to)
{
	static const char letters[] = "dflo";
	struct strv all = {0};
	char path[MERGE_PATH];

	for (size_t i = 0; merge_implied(m, i); i++) {
		merge_path(merge_implied(m, i), path);
		strv_addf(&all, "%s=d", path);
	}
	for (unsigned l = 0; l < layers; l++) {
		for (uint32_t i = 0; i < entries; i++) {
			const struct merge_inode *inode = merge_at(m, l, i);
			const struct merge_node *n = inode ? merge_first_name(inode) : NULL;

			for (; n; n = merge_next_name(n)) {
				merge_path(n, path);
				strv_addf(&all, "%s=%c%u.%u", path,
					letters[merge_inode_type(inode)], l, i);
			}
		}
	}
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), merge_text_order);
	for (size_t i = 0; i < all.n; i++)
		buf_printf(to, "%s%s", i ? " " : "", all.v[i]);
	strv_done(&all);
}

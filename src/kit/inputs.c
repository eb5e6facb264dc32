/* SPDX-License-Identifier: Apache-2.0 */
/* What the user gives to kits' arguments: --kit-arg and --kit-args-file. */
#include <fcntl.h>
#include <string.h>

#include "base/fs.h"
#include "kit/args.h"
#include "kit/ynode.h"
#include "wire/spec.h"

#define INPUTS_MAX 1024

static void add(struct kit_inputs *in, char *kit, char *name, char *value, bool from_file)
{
	in->v = xrealloc(in->v, in->n + 1, sizeof(*in->v));
	in->v[in->n++] = (struct kit_input){kit, name, value, from_file, false, false};
}

int kit_inputs_add(struct kit_inputs *in, const char *text, struct err *err)
{
	const char *eq = strchr(text, '='), *dot = strchr(text, '.');

	if (!eq || eq == text)
		return err_set(err, ERR_USER, "--kit-arg %s: [KIT.]NAME=VALUE was expected", text);
	if (in->n == INPUTS_MAX)
		return err_set(err, ERR_USER, "more than %d arguments of kits", INPUTS_MAX);
	if (!dot || dot > eq)
		dot = NULL;
	add(in, dot ? xstrndup(text, (size_t)(dot - text)) : NULL,
		dot ? xstrndup(dot + 1, (size_t)(eq - dot - 1))
		    : xstrndup(text, (size_t)(eq - text)),
		xstrdup(eq + 1), false);
	return 0;
}

static void add_node(struct load *l, struct kit_inputs *in, const char *kit, const struct ynode *n)
{
	const char *value = load_scalar(l, n, "a string");

	if (value && in->n < INPUTS_MAX)
		add(in, kit ? xstrdup(kit) : NULL, xstrdup(n->key), xstrdup(value), true);
}

int kit_inputs_add_file(
	struct kit_inputs *in, const char *path, struct kit_errors *errs, struct err *err)
{
	struct load l = {.file = path, .errs = errs};
	size_t before = errs->n_errors;
	_buf_ struct buf text = {.max = YNODE_FILE_MAX};
	struct ynode *root;

	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return err_wrap(err, "--kit-args-file");
	root = ynode_read(buf_head(&text), buf_len(&text), path, errs);
	if (root && load_is_map(&l, root)) {
		for (size_t i = 0; i < root->n; i++) {
			const struct ynode *n = root->items[i];

			if (n->kind != YNODE_MAP)
				add_node(&l, in, NULL, n);
			for (size_t k = 0; n->kind == YNODE_MAP && k < n->n; k++)
				add_node(&l, in, n->key, n->items[k]);
		}
	}
	ynode_free(root);
	if (errs->n_errors != before)
		return err_set(err, ERR_USER, "--kit-args-file %s: %zu error%s", path,
			errs->n_errors - before, errs->n_errors - before == 1 ? "" : "s");
	return 0;
}

int kit_inputs_check_used(const struct kit_inputs *in, struct err *err)
{
	for (size_t i = 0; i < in->n; i++) {
		const struct kit_input *v = &in->v[i];

		if (v->used || v->kept)
			continue;
		err_set(err, ERR_USER, "argument %s%s%s: no kit here declares it",
			v->kit ? v->kit : "", v->kit ? "." : "", v->name);
		return err_hint(err, "hutch kit inspect KIT lists the arguments of a kit");
	}
	return 0;
}

void kit_inputs_done(struct kit_inputs *in)
{
	for (size_t i = 0; i < in->n; i++) {
		free(in->v[i].kit);
		free(in->v[i].name);
		free(in->v[i].value);
	}
	free(in->v);
	*in = (struct kit_inputs){0};
}

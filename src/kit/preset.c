/* SPDX-License-Identifier: Apache-2.0 */
/* Presets. */
#include "kit/preset.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/paths.h"
#include "kit/check.h"
#include "policy/policy.h"
#include "wire/spec.h"

#define RULES_MAX 1000

static void load_rule(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "a rule");
	struct policy_rule rule;
	struct err err;

	if (!s)
		return;
	if (policy_rule_parse(s, &rule, &err) < 0) {
		load_error(l, n, "%s", err.msg);
		return;
	}
	policy_rule_done(&rule);
	free(*FIELD_AT(base, f, char *));
	*FIELD_AT(base, f, char *) = xstrdup(s);
}

static const struct field rule_rows[] = {
	ROW(preset_rule, "rule", load_rule, rule, FIELD_REQUIRED),
	ROW(preset_rule, "reason", load_string, reason, FIELD_REQUIRED, check_text),
};
static const struct shape rule_shape = SHAPE(preset_rule, rule_rows, .max = RULES_MAX);
static const struct field preset_rows[] = {
	ROW(preset, "description", load_string, description, FIELD_REQUIRED, check_text),
	LIST_ROW(preset, "allow", allow, rule_shape),
	LIST_ROW(preset, "deny", deny, rule_shape),
};

int preset_load_text(
	const char *text, size_t len, const char *file, struct preset *ret, struct kit_errors *errs)
{
	static const struct shape shape = SHAPE(preset, preset_rows, NULL);
	size_t before = errs->n_errors;
	struct preset p = {0};
	struct load l = {.file = file, .errs = errs};
	struct ynode *root = ynode_read(text, len, file, errs);

	if (root)
		load_map(&l, root, &p, &shape);
	else if (errs->n_errors == before)
		kit_errors_add(errs, false, file, 0, 0, "", "empty, expected a preset");
	ynode_free(root);
	if (errs->n_errors != before) {
		kit_errors_sort(errs);
		preset_done(&p);
		return -1;
	}
	*ret = p;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int no_preset(const char *name, const char *dir, struct err *err)
{
	struct strv names = {0};
	_buf_ struct buf list;
	DIR *d = opendir(dir);
	const struct dirent *e;
	const char *near, *dot;

	buf_init(&list, 200);
	while (d && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && (dot = strstr(e->d_name, ".yaml")) != NULL && !dot[5])
			strv_addf(&names, "%.*s", (int)(dot - e->d_name), e->d_name);
	if (d)
		closedir(d);
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), by_name);
	for (size_t i = 0; i < names.n; i++)
		buf_printf(&list, "%s%s", i ? ", " : "", names.v[i]);
	err_set(err, ERR_USER, "no preset named %s", name);
	near = near_word(name, &names);
	if (near)
		err_hint(err, "did you mean %s? There are: %s", near, buf_cstr(&list));
	else
		err_hint(err, "there are: %s (the files in %s)", buf_cstr(&list), dir);
	strv_done(&names);
	return -1;
}

int preset_load(const char *name, struct preset *ret, struct kit_errors *errs, struct err *err)
{
	_free_ char *dir = path_share("share/policy"), *base = xasprintf("%s.yaml", name);
	_free_ char *file = fs_join(dir, base);
	_buf_ struct buf text;

	buf_init(&text, YNODE_FILE_MAX);
	/* A preset's name is no path. */
	if (!spec_name_valid(name) || !fs_exists(file)) {
		return no_preset(name, dir, err);
	}
	if (fs_read_file(AT_FDCWD, file, &text, err) < 0)
		return -1;
	if (preset_load_text((const char *)buf_head(&text), buf_len(&text), file, ret, errs) < 0)
		return err_set(err, ERR_USER, "preset %s cannot be used", name);
	return 0;
}

static void rules_done(struct preset_rule *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(r[i].rule);
		free(r[i].reason);
	}
	free(r);
}

void preset_done(struct preset *p)
{
	free(p->description);
	rules_done(p->allow, p->n_allow);
	rules_done(p->deny, p->n_deny);
	*p = (struct preset){0};
}

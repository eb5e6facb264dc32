/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": ${{ kit.env.NAME }} in hooks and files, a variable that the sandbox will have:
 * known when everything else of the plan is. */
#include <string.h>

#include "base/buf.h"
#include "kit/plan_parts.h"

#define TEXT_MAX (4u << 20)
#define OPEN     "${{"
#define PREFIX   "kit.env."

static const char *value_of(const struct box_spec *s, const char *name, size_t len)
{
	if (len == 4 && memcmp(name, "HOME", 4) == 0)
		return PLAN_HOME;
	for (size_t i = 0; i < s->env.n; i++)
		if (strncmp(s->env.v[i], name, len) == 0 && s->env.v[i][len] == '=')
			return s->env.v[i] + len + 1;
	return NULL;
}

/* The name in the reference at @at; NULL when it is none. *ret_end: behind it. */
static const char *read_ref(const char *at, size_t *ret_len, const char **ret_end)
{
	const char *name = at + strlen(OPEN), *end;

	name += strspn(name, " \t");
	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return NULL;
	name += strlen(PREFIX);
	*ret_len = strcspn(name, " \t}");
	end = name + *ret_len;
	end += strspn(end, " \t");
	if (!*ret_len || strncmp(end, "}}", 2) != 0)
		return NULL;
	*ret_end = end + 2;
	return name;
}

/* @text with its references replaced. What is not known stays while the image is not (@final). */
static int fill(const struct box_spec *s, bool final, const char *kit, char **text, struct err *err)
{
	_buf_ struct buf out = {.max = TEXT_MAX};
	const char *at = *text, *next;
	bool found = false;

	while ((next = strstr(at, OPEN)) != NULL) {
		size_t len = 0;
		const char *end = next + strlen(OPEN), *name = read_ref(next, &len, &end);
		const char *value = name ? value_of(s, name, len) : NULL;

		if (name && !value && final)
			return err_set(err, ERR_USER, "kit %s: %.*s is no variable of the sandbox", kit,
				(int)MIN(len, (size_t)64), name);
		buf_put(&out, at, (size_t)(next - at));
		if (value)
			buf_puts(&out, value);
		else
			buf_put(&out, next, (size_t)(end - next));
		found |= value != NULL;
		at = end;
	}
	buf_puts(&out, at);
	if (out.failed)
		return err_set(err, ERR_USER, "kit %s: larger than 4 MiB with its variables", kit);
	if (found) {
		free(*text);
		*text = xstrdup(buf_cstr(&out));
	}
	return 0;
}

static int fill_steps(
	const struct box_spec *s, bool final, struct spec_step *v, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; v[i].bounded && m < v[i].argv.n; m++)
			if (fill(s, final, v[i].kit, &v[i].argv.v[m], err) < 0)
				return -1;
	return 0;
}

int plan_fill_env(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	bool final = req->image_config != NULL;

	if (!req->n_kits || req->kits[0].schema != 3)
		return 0;
	if (fill_steps(s, final, s->install, s->n_install, err) < 0 ||
		fill_steps(s, final, s->startup, s->n_startup, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n_files; i++)
		if (fill(s, final, s->files[i].kit, &s->files[i].content, err) < 0)
			return -1;
	return 0;
}

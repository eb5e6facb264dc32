/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of an agent. */
#include "cli/sessions.h"

#include <string.h>

#include "base/buf.h"

#define ARGUMENT_MAX (1u << 20)

/* @arg with every mark replaced by the user's words, as they are: no shell reads them. */
static char *fill(const char *arg, const char *text)
{
	static const char *const marks[] = {"{{.Prompt}}", "{{.SessionID}}"};
	_buf_ struct buf out = {.max = ARGUMENT_MAX};

	while (*arg) {
		size_t len = 0;

		for (size_t i = 0; i < ARRAY_SIZE(marks) && !len; i++)
			if (strncmp(arg, marks[i], strlen(marks[i])) == 0)
				len = strlen(marks[i]);
		if (len)
			buf_puts(&out, text ? text : "");
		else
			buf_put(&out, arg, 1);
		arg += len ? len : 1;
	}
	return out.failed ? NULL : xstrdup(buf_cstr(&out));
}

/* On a terminal the verb that is made for one, where there is one. */
static const struct spec_session *find(const struct box_spec *s, const char *verb, bool terminal)
{
	const struct spec_session *found = NULL;

	for (size_t i = 0; i < s->n_sessions; i++) {
		const struct spec_session *v = &s->sessions[i];

		if (strcmp(v->verb, verb) == 0 && (!v->terminal || terminal) &&
			(!found || v->terminal))
			found = v;
	}
	return found;
}

int sessions_argv(const struct box_spec *s, const char *verb, const char *text, bool terminal,
	struct strv *ret, struct err *err)
{
	const struct spec_session *v = find(s, verb, terminal);

	if (!v) {
		err_set(err, ERR_USER, "kit %s does not say how its agent does that: %s%s", s->agent, verb,
			terminal ? "" : ", without a terminal");
		return err_hint(err, "arguments of its own go behind --");
	}
	strv_copy(ret, &s->entrypoint);
	strv_copy(ret, &s->command_default);
	for (size_t i = 0; i < v->argv.n; i++) {
		char *arg = fill(v->argv.v[i], text);

		if (!arg)
			return err_set(err, ERR_USER, "more than %u KiB of words", ARGUMENT_MAX >> 10);
		strv_take(ret, arg);
	}
	return 0;
}

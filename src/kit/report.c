/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of errors with their places. */
#include "kit/report.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"

static void error_done(struct kit_error *x)
{
	free(x->file);
	free(x->path);
	free(x->message);
}

/* Whether the last one is there already: some maps are read in two steps. */
static bool is_repeated(const struct kit_errors *e)
{
	const struct kit_error *last = &e->v[e->n - 1];

	for (size_t i = 0; i + 1 < e->n; i++) {
		const struct kit_error *x = &e->v[i];

		if (x->line == last->line && x->column == last->column &&
			x->warning == last->warning && strcmp(x->path, last->path) == 0 &&
			strcmp(x->message, last->message) == 0 && strcmp(x->file, last->file) == 0)
			return true;
	}
	return false;
}

void kit_errors_add(struct kit_errors *e, bool warning, const char *file, int line, int column,
	const char *path, const char *fmt, ...)
{
	struct kit_error *slot;
	char safe[512];
	va_list ap;

	if (e->n == KIT_ERRORS_MAX) {
		e->n_errors += !warning;
		e->n_dropped++;
		return;
	}
	e->v = xrealloc(e->v, e->n + 1, sizeof(*e->v));
	slot = &e->v[e->n++];
	*slot = (struct kit_error){
		.warning = warning, .file = xstrdup(file), .line = line, .column = column};
	slot->path = xstrdup(log_safe(safe, sizeof(safe), path, strlen(path)));
	va_start(ap, fmt);
	slot->message = xvasprintf(fmt, ap);
	va_end(ap);
	/* The message may quote the file; it goes to a terminal. */
	log_safe(slot->message, strlen(slot->message) + 1, slot->message, strlen(slot->message));
	if (is_repeated(e)) {
		error_done(&e->v[--e->n]);
		return;
	}
	e->n_errors += !warning;
}

/* A stable insertion sort: at most KIT_ERRORS_MAX, nearly sorted already. */
void kit_errors_sort(struct kit_errors *e)
{
	for (size_t i = 1; i < e->n; i++) {
		struct kit_error x = e->v[i];
		size_t k = i;

		for (; k > 0; k--) {
			const struct kit_error *y = &e->v[k - 1];

			if (strcmp(y->file, x.file) != 0 || y->line < x.line ||
				(y->line == x.line && y->column <= x.column))
				break;
			e->v[k] = e->v[k - 1];
		}
		e->v[k] = x;
	}
}

void kit_errors_print(const struct kit_errors *e, FILE *out)
{
	for (size_t i = 0; i < e->n; i++) {
		const struct kit_error *x = &e->v[i];

		fputs(x->file, out);
		if (x->line)
			fprintf(out, ":%d:%d", x->line, x->column);
		fprintf(out, ": %s%s%s%s\n", x->warning ? "warning: " : "", x->path,
			x->path[0] ? ": " : "", x->message);
	}
	if (e->n_dropped)
		fprintf(out, "and %zu more\n", e->n_dropped);
}

void kit_errors_done(struct kit_errors *e)
{
	for (size_t i = 0; i < e->n; i++)
		error_done(&e->v[i]);
	free(e->v);
	*e = (struct kit_errors){0};
}

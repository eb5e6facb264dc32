/* SPDX-License-Identifier: Apache-2.0 */
/* What our own programs say: "progress DONE TOTAL" on the way, one line of JSON as the answer, and
 * when they fail the reason in one line and the remedy in the next. */
#include <stdio.h>
#include <string.h>

#include "image/internal.h"

static void on_line(void *arg, const char *line)
{
	struct words *w = arg;
	unsigned long long done, total;

	if (sscanf(line, "progress %llu %llu", &done, &total) == 2) {
		/* The end is told by whoever started it. */
		if (w->progress && total)
			w->progress(w->arg, w->what, (int)MIN(done * 100 / total, 99ull));
	} else if (*line == '{') {
		free(w->answer);
		w->answer = xstrdup(line);
	} else if (!w->reason) {
		w->reason = xstrdup(line);
	} else if (!w->remedy) {
		w->remedy = xstrdup(line);
	}
}

int words_run(const struct job *job, struct words *w, int *ret_status, struct err *err)
{
	struct job j = *job;

	j.line = on_line;
	j.arg = w;
	j.ret_status = ret_status;
	if (w->progress)
		w->progress(w->arg, w->what, 0);
	if (job_run(&j, err) == 0)
		return 0;
	if (w->reason && strstr(w->reason, "No space left on device"))
		err_set(err, ERR_ENV, "%s", w->reason);
	else if (w->reason)
		err_set(err, ERR_USER, "%s", w->reason);
	if (w->remedy)
		err_hint(err, "%s", w->remedy);
	return -1;
}

void words_done(struct words *w)
{
	free(w->answer);
	free(w->reason);
	free(w->remedy);
	*w = (struct words){0};
}

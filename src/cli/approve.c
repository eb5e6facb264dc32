/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the user before a kit from elsewhere gets more than was approved. */
#include "cli/approve.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "remote/approve.h"

#define DIGITS_MIN 12

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	cli_print(stderr, text);
}

static void show(const struct approval *a)
{
	if (a->known)
		say("hutch: kit %s from %s asks for more than you approved:\n", a->name, a->source);
	else
		say("hutch: kit %s from %s is used for the first time. It asks for:\n", a->name,
			a->source);
	for (size_t i = 0; i < a->diff.n; i++)
		say("  %s\n", a->diff.v[i]);
	if (!a->diff.n)
		say("  nothing outside its sandbox\n");
	if (!a->known && a->n_install)
		say("  and runs %zu install step%s as root in the sandbox\n", a->n_install,
			a->n_install == 1 ? "" : "s");
	say("  digest %s\n", a->digest);
}

static bool is_named(const struct approval *a, const struct strv *digests)
{
	for (size_t i = 0; i < digests->n; i++) {
		const char *d = digests->v[i];

		d += strncmp(d, "sha256:", 7) == 0 ? 7 : 0;
		if (strlen(d) >= DIGITS_MIN && strncmp(a->digest, d, strlen(d)) == 0)
			return true;
	}
	return false;
}

/* A clear yes, from a person. */
static bool ask(void)
{
	char line[16];

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return false;
	fprintf(stderr, "hutch: approve this? [y/N] ");
	fflush(stderr);
	if (!fgets(line, sizeof(line), stdin))
		return false;
	return strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0;
}

int approve_kits(const struct kit *kits, size_t n, const struct strv *digests)
{
	struct approvals list;
	struct err err;
	int status = 0;

	if (approvals_find(kits, n, &list, &err) < 0)
		return cli_fail(&err);
	for (size_t i = 0; status == 0 && i < list.n; i++) {
		const struct approval *a = &list.v[i];
		bool yes = is_named(a, digests);

		if (!yes) {
			show(a);
			yes = ask();
		}
		if (!yes) {
			say("hutch: not approved\n       to approve it: --approve-kit %.*s\n",
				DIGITS_MIN, a->digest);
			status = CLI_REFUSED;
		} else if (approvals_save(a, &err) < 0) {
			status = cli_fail(&err);
		}
	}
	approvals_done(&list);
	return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The environment that each process of a sandbox gets.
 *
 * People keep tokens in variables. hutch-secret needs them all, for what env: and cmd: may name. A
 * process that reads hostile bytes must have none of them in its memory, or a break-out into it
 * would gain what no sandbox is ever given. */
#include "box/environ.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

extern char **environ;

/* A name that ends in '_' stands for all that begin with it, one that begins with '_' for all that
 * end with it, in upper or lower case. */
static const char *const names[][16] = {
	[ENVIRON_NOBODY] = {"HUTCH_", "XDG_", "ASAN_", "UBSAN_", "LSAN_", "TSAN_", "MALLOC_",
		"LD_LIBRARY_PATH"},
	[ENVIRON_HOST] = {"PATH", "HOME", "USER", "LANG", "LC_", "TZ", "TMPDIR", "QEMU_"},
	[ENVIRON_NETWORK] = {"SSL_", "OPENSSL_", "_PROXY", "RES_OPTIONS", "LOCALDOMAIN",
		"HOSTALIASES"},
};

static bool has(enum environ_part part, const char *entry)
{
	size_t len = strcspn(entry, "=");

	for (size_t i = 0; i < ARRAY_SIZE(names[part]) && names[part][i]; i++) {
		const char *name = names[part][i];
		size_t n = strlen(name);

		if (name[0] == '_' ? len >= n && strncasecmp(entry + len - n, name, n) == 0
				   : (name[n - 1] == '_' ? len >= n : len == n) &&
					     strncmp(entry, name, n) == 0)
			return true;
	}
	return false;
}

void environ_pick(enum environ_part part, struct strv *ret)
{
	for (char **e = environ; *e; e++)
		for (enum environ_part p = ENVIRON_NOBODY; p <= part; p++)
			if (has(p, *e))
				strv_add(ret, *e);
}

void environ_forget(void)
{
	char **keep = environ;

	for (char **e = environ; *e; e++) {
		if (has(ENVIRON_NOBODY, *e) || has(ENVIRON_HOST, *e) || has(ENVIRON_NETWORK, *e))
			*keep++ = *e;
		else
			mem_wipe(*e, strlen(*e));
	}
	*keep = NULL;
}

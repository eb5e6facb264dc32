/* SPDX-License-Identifier: Apache-2.0 */
/* Which generation of a sandbox has been set up: one file, so that spec.json alone decides which
 * one a sandbox is in. */
#include "wire/spec.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"

#define FILE_NAME "setup-done"

bool spec_is_set_up(int dir_fd, const struct box_spec *s)
{
	_buf_ struct buf text = {.max = 32};

	/* Empty for the first. */
	return fs_read_file(dir_fd, FILE_NAME, &text, NULL) == 0 &&
	       strtoull(buf_cstr(&text), NULL, 10) == s->generation;
}

int spec_note_set_up(int dir_fd, const struct box_spec *s, struct err *err)
{
	_free_ char *text = s->generation ? xasprintf("%llu\n", (unsigned long long)s->generation)
					  : xstrdup("");

	return fs_write_file(dir_fd, FILE_NAME, text, strlen(text), 0600, err);
}

bool spec_has_hooks(const struct box_spec *s)
{
	for (size_t i = 0; i < s->n_install; i++)
		if (s->install[i].bounded && !s->install[i].done)
			return true;
	return false;
}

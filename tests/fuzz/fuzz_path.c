/* SPDX-License-Identifier: Apache-2.0 */
/* A path, and on a second line a pattern. Properties: the exact reading is one that reads as
 * itself; neither reading has dot segments; the loose one has no second separator; a path is
 * matched by itself as a pattern; coverage agrees with matching. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_segments(const char *path, bool loose)
{
	require(path[0] == '/');
	for (const char *at = path; *at;) {
		size_t len = strcspn(++at, "/");

		require(!(len == 1 && at[0] == '.') && !(len == 2 && memcmp(at, "..", 2) == 0));
		require(!loose || len > 0 || path[1] == '\0');
		at += len;
	}
	for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
		require(*s >= ' ' && *s != 0x7f && (loose || *s < 0x80));
		require(!loose || *s != '\\');
	}
}

static void check_path(const struct policy_path *p)
{
	struct policy_path again;

	check_segments(p->exact, false);
	check_segments(p->loose, true);
	if (strlen(p->exact) > POLICY_PATH_MAX)
		return;
	require(policy_path_parse(p->exact, strlen(p->exact), &again, NULL) == 0);
	require(strcmp(again.exact, p->exact) == 0 && strcmp(again.loose, p->loose) == 0);
	policy_path_done(&again);
}

static void check_pattern(const char *text, const struct policy_path *path)
{
	struct policy_path p, self;
	bool exact, loose;

	if (policy_pattern_parse(text, &p, NULL) < 0)
		return;
	require(policy_pattern_covers(&p, &p));
	exact = policy_path_match(p.exact, path->exact, false);
	loose = policy_path_match(p.loose, path->loose, false);
	require(!exact || policy_path_match(p.exact, path->exact, true));
	require(!loose || policy_path_match(p.loose, path->loose, true));
	if (policy_pattern_parse(path->exact, &self, NULL) == 0) {
		require(policy_path_match(self.exact, path->exact, false));
		require(policy_path_match(self.loose, path->loose, false));
		if (!strchr(self.exact, '*'))
			require(policy_pattern_covers(&p, &self) ==
				((exact && loose) || strcmp(p.exact, "/**") == 0));
		policy_path_done(&self);
	}
	policy_path_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = malloc(size + 1);
	struct policy_path path;
	char *pattern;

	if (size > 2 * POLICY_PATH_MAX)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	pattern = strchr(text, '\n');
	if (pattern)
		*pattern++ = '\0';
	if (policy_path_parse(text, pattern ? (size_t)(pattern - 1 - text) : size, &path, NULL) < 0)
		return 0;
	check_path(&path);
	if (pattern)
		check_pattern(pattern, &path);
	policy_path_done(&path);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The file with the user's rules for all sandboxes. */
#include "wire/spec.h"

#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/paths.h"

#define FILE_MAX (4u << 20)

static char *rules_path(struct err *err)
{
	_free_ char *dir = path_config("", err);

	return dir ? fs_join(dir, "policy.json") : NULL;
}

int spec_rules_load(struct spec_rules *ret, struct err *err)
{
	_free_ char *path = rules_path(err);
	_buf_ struct buf text;
	json_error_t jerr;
	json_t *j;
	int rc;

	*ret = (struct spec_rules){0};
	buf_init(&text, FILE_MAX);
	if (!path)
		return -1;
	if (!fs_exists(path)) {
		ret->preset = xstrdup("");
		return 0;
	}
	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return -1;
	j = json_loadb((char *)buf_head(&text), buf_len(&text), JSON_REJECT_DUPLICATES, &jerr);
	if (!j)
		return err_set(err, ERR_ENV, "%s: line %d: %s", path, jerr.line, jerr.text);
	rc = spec_rules_from_json(j, ret, err);
	json_decref(j);
	if (rc == 0)
		return 0;
	if (err && spec_err_is_skew(err))
		err_hint(err, "another version of hutch wrote it; move it away to begin with no rules");
	return err_wrap(err, "%s", path);
}

int spec_rules_save(const struct spec_rules *r, struct err *err)
{
	_free_ char *path = rules_path(err), *text = NULL;
	json_t *j = spec_rules_to_json(r);

	text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!path)
		return -1;
	if (!text)
		return err_set(err, ERR_BUG, "the rules cannot be encoded");
	return fs_write_file(AT_FDCWD, path, text, strlen(text), 0600, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of an image. */
#include "oci/config.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "oci/ref.h"

#define ENTRIES_MAX 1024 /* of each list */

/* A list of strings, or null. */
static int read_list(const json_t *from, const char *key, struct strv *to, struct err *err)
{
	const json_t *list = json_object_get(from, key), *o;
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list) || json_array_size(list) > ENTRIES_MAX)
		return err_set(
			err, ERR_USER, "its configuration: %s is not a list of strings", key);
	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		const char *s = json_string_value(o);

		if (!s || strlen(s) != json_string_length(o))
			return err_set(err, ERR_USER,
				"its configuration: %s is not a list of strings", key);
		strv_add(to, s);
	}
	return 0;
}

static int read_text(const json_t *from, const char *key, char **to, struct err *err)
{
	const json_t *o = json_object_get(from, key);
	const char *s = json_string_value(o);

	if (!o || json_is_null(o) || (s && !*s))
		return 0;
	if (!s || strlen(s) != json_string_length(o))
		return err_set(err, ERR_USER, "its configuration: %s is not a string", key);
	*to = xstrdup(s);
	return 0;
}

/* Old tools leave the platform out. */
static int check_platform(const json_t *root, struct err *err)
{
	const char *os = json_string_value(json_object_get(root, "os"));
	const char *arch = json_string_value(json_object_get(root, "architecture"));

	if ((!os || !*os || strcmp(os, "linux") == 0) &&
		(!arch || !*arch || strcmp(arch, "amd64") == 0))
		return 0;
	return err_set(err, ERR_USER, "made for %.40s/%.40s; this machine runs linux/amd64",
		os ? os : "", arch ? arch : "");
}

static int read_diff_ids(const json_t *root, struct strv *to, struct err *err)
{
	if (read_list(json_object_get(root, "rootfs"), "diff_ids", to, err) < 0)
		return -1;
	for (size_t i = 0; i < to->n; i++)
		if (!oci_digest_valid(to->v[i]))
			return err_set(
				err, ERR_USER, "its configuration: diff_ids[%zu] is no sha256", i);
	return 0;
}

static int read_config(const json_t *root, struct image_config *c, struct err *err)
{
	const json_t *config = json_object_get(root, "config");

	if (check_platform(root, err) < 0 ||
		read_list(config, "Entrypoint", &c->entrypoint, err) < 0 ||
		read_list(config, "Cmd", &c->cmd, err) < 0 ||
		read_list(config, "Env", &c->env, err) < 0 ||
		read_text(config, "WorkingDir", &c->workdir, err) < 0 ||
		read_text(config, "User", &c->user, err) < 0)
		return -1;
	return read_diff_ids(root, &c->diff_ids, err);
}

int image_config_parse(const void *text, size_t len, struct image_config *ret, struct err *err)
{
	struct image_config c = {0};
	json_t *root;
	int result;

	if (len > OCI_CONFIG_MAX)
		return err_set(err, ERR_USER, "its configuration is larger than 4 MiB");
	root = json_loadb(text, len, 0, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, ERR_USER, "its configuration is no JSON object");
	}
	result = read_config(root, &c, err);
	json_decref(root);
	if (result < 0) {
		image_config_done(&c);
		return -1;
	}
	*ret = c;
	return 0;
}

void image_config_done(struct image_config *c)
{
	strv_done(&c->entrypoint);
	strv_done(&c->cmd);
	strv_done(&c->env);
	strv_done(&c->diff_ids);
	free(c->workdir);
	free(c->user);
	*c = (struct image_config){0};
}

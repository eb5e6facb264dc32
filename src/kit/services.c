/* SPDX-License-Identifier: Apache-2.0 */
/* The services that Hutch knows. */
#include "kit/services.h"

#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/paths.h"
#include "kit/blocks.h"

static const struct field services_rows[] = {
	LIST_ROW(kit, "credentials", credentials, credential_shape),
	CUSTOM_ROW("variables", load_vars, JSON_VARS),
};

/* Every service once, with a variable; every variable once, for a service that is there. */
static void check(struct load *l, const struct ynode *root, const struct kit *k)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];

		if (!c->service || services_find(k, c->service) != c)
			load_error(l, c->at, "this service is there already");
		else if (!c->env || !c->n_injects)
			load_error(l, c->at, "apiKey needs name and inject");
	}
	for (size_t i = 0; i < k->n_vars; i++) {
		const char *owner = services_of_variable(k, k->vars[i].name);

		if (!services_find(k, k->vars[i].value) || !owner ||
			strcmp(owner, k->vars[i].value) != 0)
			load_error(l, ynode_get(root, "variables"),
				"%s: expected a service of this file, and each variable once",
				k->vars[i].name);
	}
}

int services_load_text(
	const char *text, size_t len, const char *file, struct kit *ret, struct kit_errors *errs)
{
	static const struct shape shape = SHAPE(kit, services_rows, NULL);
	size_t before = errs->n_errors;
	struct kit k = {0};
	struct load l = {.file = file, .errs = errs};
	struct ynode *root = ynode_read(text, len, file, errs);

	if (root)
		load_map(&l, root, &k, &shape);
	else if (errs->n_errors == before)
		kit_errors_add(errs, false, file, 0, 0, "", "empty, expected services");
	if (errs->n_errors == before)
		check(&l, root, &k);
	ynode_free(root);
	for (size_t i = 0; i < k.n_credentials; i++) {
		k.credentials[i].at = NULL; /* the text is gone */
		for (size_t m = 0; m < k.credentials[i].n_injects; m++)
			k.credentials[i].injects[m].at = NULL;
	}
	if (errs->n_errors != before) {
		kit_errors_sort(errs);
		kit_done(&k);
		return -1;
	}
	*ret = k;
	return 0;
}

int services_load(struct kit *ret, struct kit_errors *errs, struct err *err)
{
	_free_ char *file = path_share("share/services.yaml");
	_buf_ struct buf text;

	buf_init(&text, YNODE_FILE_MAX);
	if (fs_read_file(AT_FDCWD, file, &text, err) < 0)
		return -1;
	if (services_load_text((const char *)buf_head(&text), buf_len(&text), file, ret, errs) < 0)
		return err_set(err, ERR_USER, "%s cannot be used", file);
	return 0;
}

const struct kit_credential *services_find(const struct kit *services, const char *name)
{
	for (size_t i = 0; i < services->n_credentials; i++)
		if (services->credentials[i].service &&
			strcmp(services->credentials[i].service, name) == 0)
			return &services->credentials[i];
	return NULL;
}

const char *services_of_variable(const struct kit *services, const char *name)
{
	for (size_t i = 0; i < services->n_credentials; i++)
		if (services->credentials[i].env && strcmp(services->credentials[i].env, name) == 0)
			return services->credentials[i].service;
	for (size_t i = 0; i < services->n_vars; i++)
		if (strcmp(services->vars[i].name, name) == 0)
			return services->vars[i].value;
	return NULL;
}

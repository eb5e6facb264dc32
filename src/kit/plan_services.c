/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials that the user grants beside the kits': built-in services, by name. They do not widen
 * the network: where no rule allows the service's hosts, the value has nowhere to go. */
#include <string.h>

#include "kit/plan_parts.h"
#include "kit/services.h"

static bool is_there(const struct spec_net *n, const char *service)
{
	for (size_t i = 0; i < n->n_credentials; i++)
		if (strcmp(n->credentials[i].service, service) == 0)
			return true;
	return false;
}

static int add(struct box_spec *s, const struct plan_request *req, const char *name,
	const char *source, bool required, struct err *err)
{
	const struct kit_credential *c = req->services ? services_find(req->services, name) : NULL;

	if (!c) {
		err_set(err, ERR_USER, "%s: no built-in service is named %s", source, name);
		return err_hint(err, "hutch secret services lists them; a kit can describe others");
	}
	/* What a kit says of a service stands. */
	if (!is_there(&s->net, name))
		plan_add_credential(s, source, c, required);
	return 0;
}

int plan_add_services(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	const struct settings *set = req->settings;

	for (size_t i = 0; i < req->credentials.n; i++)
		if (add(s, req, req->credentials.v[i], "--credential", true, err) < 0)
			return -1;
	for (size_t i = 0; set && i < set->credentials.n; i++)
		if (add(s, req, set->credentials.v[i], "settings", false, err) < 0)
			return -1;
	return 0;
}

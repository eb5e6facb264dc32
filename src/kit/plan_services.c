/* SPDX-License-Identifier: Apache-2.0 */
/* What the user grants beside or above the kits: built-in services, by name, and the ssh-agent. Neither
 * widens the network: where no rule allows the hosts, there is nowhere to go. */
#include <string.h>

#include "kit/plan_parts.h"
#include "kit/services.h"
#include "wire/agent.h"

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

/* The union of what the kits ask for. */
void plan_add_ssh(struct box_spec *s, const struct plan_request *req)
{
	for (size_t i = 0; i < req->n_kits; i++) {
		const struct kit *k = &req->kits[i];
		_free_ char *source = xasprintf("kit %s", k->name);

		if (!k->ssh_keys.n || !req->ssh_agent)
			continue;
		strv_copy(&s->ssh_keys, &k->ssh_keys);
		strv_copy(&s->ssh_hosts, &k->ssh_hosts);
		s->ssh_any_host |= k->ssh_any_host;
		plan_set_env(&s->env, "SSH_AUTH_SOCK", AGENT_SSH_SOCKET);
		plan_set_origin(s, "env SSH_AUTH_SOCK", source);
	}
}

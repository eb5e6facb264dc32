/* SPDX-License-Identifier: Apache-2.0 */
/* sshAgent: which keys of the user's ssh-agent a kit wants, and where they log in. */
#include <string.h>

#include "kit/blocks.h"
#include "kit/check.h"
#include "policy/policy.h"

static const char *check_key(const char *s)
{
	return check_text(s) || !*s || *s == '-'
		       ? "a fingerprint such as SHA256:..., or the comment of a key"
		       : NULL;
}

/* "name", "name:port", "SHA256:…" → as known_hosts has it. Owned; NULL when it is none. */
static char *host_entry(const char *s)
{
	char canon[POLICY_NAME_MAX + 1];
	const char *colon = strchr(s, ':');
	size_t len = colon ? (size_t)(colon - s) : strlen(s);
	unsigned port = 0;

	if (strncmp(s, "SHA256:", 7) == 0)
		return strlen(s) == 50 ? xstrdup(s) : NULL;
	if (policy_name_canon(s, len, canon, NULL) < 0)
		return NULL;
	if (!colon)
		return xstrdup(canon);
	for (const char *c = colon + 1; *c; c++) {
		if (*c < '0' || *c > '9' || port > 6553)
			return NULL;
		port = port * 10 + (unsigned)(*c - '0');
	}
	if (port == 0 || port > 65535)
		return NULL;
	return port == 22 ? xstrdup(canon) : xasprintf("[%s]:%u", canon, port);
}

static void load_ssh_hosts(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_list(l, n, "a list of hosts"))
		return;
	for (size_t i = 0; i < n->n; i++) {
		const char *s = load_scalar(l, n->items[i], "a host");
		char *entry = s ? host_entry(s) : NULL;

		if (entry)
			strv_take(FIELD_AT(base, f, struct strv), entry);
		else if (s)
			load_error(l, n->items[i],
				"expected a host name, perhaps with a port, or the fingerprint "
				"of a host's key");
	}
}

static void finish_ssh(struct load *l, const struct ynode *n, void *entry)
{
	const struct kit *k = entry;

	if (!ynode_get(n, "keys") ||
		(ynode_get(n, "keys")->kind == YNODE_LIST && !ynode_get(n, "keys")->n))
		load_error(l, n, "keys is missing");
	if (k->ssh_any_host && ynode_get(n, "hosts"))
		load_error_key(
			l, ynode_get(n, "hosts"), "next to unrestricted, only one of the two");
	if (!k->ssh_any_host && !k->ssh_hosts.n && !ynode_get(n, "hosts"))
		load_error(l, n, "hosts is missing, or unrestricted: true");
}

static const struct field ssh_rows[] = {
	ROW(kit, "keys", load_strv, ssh_keys, 0, check_key),
	ROW(kit, "hosts", load_ssh_hosts, ssh_hosts, 0, NULL, NULL, JSON_STRINGS),
	ROW(kit, "unrestricted", load_bool, ssh_any_host),
};
const struct shape ssh_shape = SHAPE(kit, ssh_rows, NULL, finish_ssh);

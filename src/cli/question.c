/* SPDX-License-Identifier: Apache-2.0 */
/* A question to the network rules, in words. */
#include "cli/question.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void question_done(struct question *k)
{
	free(k->text);
	policy_path_done(&k->path);
}

/* "https://host:port/path", "host:port/path", "host". Gives the default port. */
static char *strip_scheme(char *s, uint16_t *ret_port, bool *ret_http)
{
	*ret_http = false;
	*ret_port = 443;
	if (strncasecmp(s, "https://", 8) != 0 && strncasecmp(s, "http://", 7) != 0)
		return s;
	*ret_http = true;
	if (s[4] == ':')
		*ret_port = 80;
	return s + (s[4] == ':' ? 7 : 8);
}

int question_parse(struct question *k, const char *target, const char *method, const char *at,
	bool udp, struct err *err)
{
	char *s = k->text = xstrdup(target), *blank = strchr(s, ' '), *path;
	uint16_t port = 0;
	bool http;

	if (blank) {
		*blank = '\0';
		if (strcmp(s, "udp") == 0)
			k->q.proto = POLICY_UDP;
		else if (strcmp(s, "tcp") != 0)
			method = s;
		s = blank + 1;
	}
	if (udp)
		k->q.proto = POLICY_UDP;
	s = strip_scheme(s, &k->q.port, &http);
	path = s + strcspn(s, "/?#");
	if (*path && !at) {
		http |= *path == '/';
		at = path;
	}
	if (policy_addr_parse(s, (size_t)(path - s), &k->host.addr, NULL) == 0)
		k->host.is_addr = true;
	else if (policy_authority_parse(s, (size_t)(path - s), &k->host, &port, err) < 0)
		return err_wrap(err, "%s", target);
	k->q.port = port ? port : k->q.port;
	k->q.name = k->host.is_addr ? NULL : k->host.name;
	k->q.addr = k->host.is_addr ? &k->host.addr : NULL;
	if (!http && !method && !at)
		return 0;
	at = at ? at : "/";
	if (policy_path_parse(at, strcspn(at, "?#"), &k->path, err) < 0)
		return err_wrap(err, "%s", target);
	k->q.method = method ? method : "GET";
	k->q.path = &k->path;
	return 0;
}

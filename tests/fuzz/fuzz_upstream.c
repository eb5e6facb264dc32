/* SPDX-License-Identifier: Apache-2.0 */
/* Proxy settings: the input is the URL, a line break, no_proxy, a line break, a host. Checked: what
 * is accepted names a host and port that parse back, credentials are Basic, and "*" covers
 * everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/upstream.h"

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			fprintf(stderr, "violated: %s\n", #c);                                     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct vars {
	const char *url, *no_proxy;
};

static const char *get(void *arg, const char *name)
{
	const struct vars *v = arg;

	return strcmp(name, "no_proxy") == 0    ? v->no_proxy
	       : strcmp(name, "all_proxy") == 0 ? v->url
						: NULL;
}

static void check_proxy(const struct upstream_proxy *p)
{
	struct policy_host host;
	uint16_t port;

	if (p->auth) {
		CHECK(secret_len(p->auth) > 6 && memcmp(secret_bytes(p->auth), "Basic ", 6) == 0);
		for (size_t i = 6; i < secret_len(p->auth); i++)
			CHECK(strchr("+/=", secret_bytes(p->auth)[i]) ||
				(secret_bytes(p->auth)[i] | 32) >= 'a' ||
				(secret_bytes(p->auth)[i] >= '0' &&
					secret_bytes(p->auth)[i] <= '9'));
	}
	if (p->problem[0])
		return;
	CHECK(policy_authority_parse(p->text, strlen(p->text), &host, &port, NULL) == 0);
	CHECK(port == p->port && port > 0 && strcmp(host.name, p->host.name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = malloc(size + 1);
	struct policy_query q = {.port = 443};
	struct vars v = {.url = text};
	struct policy_host host;
	struct upstream u;
	char *rest;

	memcpy(text, data, size);
	text[size] = '\0';
	rest = strchr(text, '\n');
	if (rest)
		*rest++ = '\0';
	v.no_proxy = rest;
	rest = rest ? strchr(rest, '\n') : NULL;
	if (rest)
		*rest++ = '\0';
	upstream_read(&u, get, &v);
	CHECK(u.n_bypass <= UPSTREAM_BYPASS_MAX);
	for (int k = 0; k < UPSTREAM_KINDS; k++)
		if (u.proxy[k])
			check_proxy(u.proxy[k]);
	if (rest && policy_host_parse(rest, strlen(rest), &host, NULL) == 0) {
		q.name = host.is_addr ? NULL : host.name;
		q.addr = host.is_addr ? &host.addr : NULL;
		CHECK(!u.bypass_all || !upstream_any(&u, &q));
		CHECK(upstream_any(&u, &q) == (upstream_find(&u, UPSTREAM_TLS, &q) != NULL));
	}
	upstream_done(&u);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The proxies of this machine. */
#include "cli/proxies.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kit/settings.h"

extern char **environ;

static const char *const proxies[] = {"http_proxy", "https_proxy", "all_proxy"};

static bool is_variable(const char *entry, const char *name)
{
	size_t n = strlen(name);

	return strncasecmp(entry, name, n) == 0 && entry[n] == '=';
}

static bool is_proxy(const char *entry)
{
	for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
		if (is_variable(entry, proxies[i]))
			return true;
	return false;
}

static void put(const struct settings *s, struct strv *ret)
{
	for (char **e = environ; *e; e++)
		if (!(s->proxy && is_proxy(*e)) && !(s->no_proxy && is_variable(*e, "no_proxy")))
			strv_add(ret, *e);
	if (s->proxy && !settings_is_no_proxy(s->proxy))
		for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
			strv_addf(ret, "%s=%s", proxies[i], s->proxy);
	if (s->no_proxy)
		strv_addf(ret, "no_proxy=%s", s->no_proxy);
}

int proxies_environment(struct strv *ret, struct err *err)
{
	struct kit_errors errs = {0};
	struct settings s;
	int result = settings_load(NULL, &s, &errs, err);

	if (result == 0) {
		put(&s, ret);
		settings_done(&s);
	} else {
		kit_errors_print(&errs, stderr);
	}
	kit_errors_done(&errs);
	return result;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a kit and as settings. What loads keeps the promises of kit.h, and its plan goes
 * through JSON and the printer unharmed. */
#include <stdlib.h>
#include <string.h>

#include "kit/plan.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_target(const char *target)
{
	struct policy_rule rule;

	must(policy_rule_parse(target, &rule, NULL) == 0);
	policy_rule_done(&rule);
}

static void check_kit(const struct kit *k)
{
	must(k->schema == 2 && spec_name_valid(k->name));
	must(k->kind == KIT_MIXIN || k->sandbox.image);
	for (size_t i = 0; i < k->n_rules; i++)
		check_target(k->rules[i].target);
	for (size_t i = 0; i < k->n_vars; i++)
		must(kit_env_name_valid(k->vars[i].name) && k->vars[i].value);
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];

		must(spec_name_valid(c->service) && kit_env_name_valid(c->env));
		for (size_t m = 0; m < c->n_injects; m++) {
			check_target(c->injects[m].domain);
			must(c->injects[m].header && strstr(c->injects[m].format, "%s"));
			must(!strpbrk(c->injects[m].format, "\r\n"));
		}
	}
	for (size_t i = 0; i < k->n_install; i++)
		must(k->install[i].argv.n == 3 && k->install[i].user);
	for (size_t i = 0; i < k->n_startup; i++)
		must(k->startup[i].argv.n > 0 && k->startup[i].user);
	for (size_t i = 0; i < k->n_files; i++)
		must(k->files[i].path[0] == '/' && !strstr(k->files[i].path, "/../") &&
			k->files[i].content && k->files[i].mode <= 07777);
}

static void check_plan(const struct kit *k, const struct settings *set)
{
	struct plan_request req = {.kits = k,
		.n_kits = 1,
		.settings = set,
		.host_cpus = 4,
		.host_memory_bytes = 1ULL << 33};
	char dir[] = "/usr/share/doc";
	char *mounts[] = {dir, NULL};
	char out[256];
	struct box_spec s, back;
	struct err err;
	json_t *j;
	FILE *f;

	req.mounts = (struct strv){mounts, 1};
	if (plan_make(&req, &s, &err) < 0)
		return;
	j = spec_to_json(&s);
	must(j && spec_from_json(j, &back, &err) == 0);
	json_decref(j);
	spec_done(&back);
	f = fmemopen(out, sizeof(out), "w");
	plan_print(&s, f);
	fclose(f);
	spec_done(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct kit_errors errs = {0};
	struct settings set = {0};
	struct kit k;

	if (settings_load_text(text, size, "s", &set, &errs) < 0)
		must(errs.n_errors > 0);
	kit_errors_done(&errs);
	if (kit_load_text(text, size, "k", NULL, &k, &errs) == 0) {
		check_kit(&k);
		check_plan(&k, &set);
		kit_done(&k);
	} else {
		must(errs.n_errors > 0);
	}
	kit_errors_done(&errs);
	settings_done(&set);
	return 0;
}

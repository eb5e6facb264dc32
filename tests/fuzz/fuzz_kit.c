/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a kit and as settings. What loads keeps the promises of kit.h, and its plan goes
 * through JSON and the printer unharmed. */
#include <stdlib.h>
#include <string.h>

#include "kit/inspect.h"
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
	must(k->schema >= 1 && k->schema <= 3 && spec_name_valid(k->name) && !k->placeholders);
	must(k->kind != KIT_SANDBOX || k->sandbox.image || k->extends || k->schema == 3);
	for (size_t i = 0; i < k->n_rules; i++)
		check_target(k->rules[i].target);
	for (size_t i = 0; i < k->n_volumes; i++) {
		const char *path = k->volumes[i].path;

		must(path[0] == '/' && path[1] && !strstr(path, "//") && !strstr(path, "/../") &&
			path[strlen(path) - 1] != '/' && k->volumes[i].mode <= 07777);
	}
	for (size_t i = 0; i < k->n_vars; i++)
		must(kit_env_name_valid(k->vars[i].name) && k->vars[i].value);
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];

		must(spec_name_valid(c->service) && (!c->env || kit_env_name_valid(c->env)));
		for (size_t m = 0; m < c->n_injects; m++) {
			check_target(c->injects[m].domain);
			if (c->adds)
				continue;
			must(c->injects[m].header && strstr(c->injects[m].format, "%s"));
			must(!strpbrk(c->injects[m].format, "\r\n"));
		}
	}
	for (size_t i = 0; i < k->n_install; i++)
		must(k->install[i].argv.n > 0 && k->install[i].user);
	for (size_t i = 0; i < k->n_startup; i++)
		must(k->startup[i].argv.n > 0 && k->startup[i].user);
	for (size_t i = 0; i < k->n_files; i++)
		must(k->files[i].path[0] == '/' && !strstr(k->files[i].path, "/../") &&
			k->files[i].content && k->files[i].mode <= 07777);
	for (size_t i = 0; i < k->n_volumes; i++)
		must(k->volumes[i].path[0] == '/' && !k->volumes[i].at);
	for (size_t i = 0; i < k->n_ports; i++)
		must(k->ports[i].container >= 1 && k->ports[i].container <= 65535);
	for (size_t i = 0; i < k->n_args; i++)
		must(k->args[i].name && k->args[i].value);
	for (size_t i = 0; i < k->n_capabilities; i++)
		must(k->capabilities[i].known || k->capabilities[i].skipped);
	json_decref(kit_json(k));
}

/* Values for all that a text may ask for; or none, for checking only. */
static void check_inputs(const char *text, size_t size)
{
	struct kit_inputs in = {0};
	struct kit_errors errs = {0};
	struct kit k;

	kit_inputs_add(&in, "a=1.20", NULL);
	kit_inputs_add(&in, "name=x\ny: z", NULL);
	kit_inputs_add(&in, "k.host=${{ kit.args.a }}", NULL);
	for (int i = 0; i < 2; i++) {
		in.placeholders = i;
		if (kit_load_text(text, size, "k", &in, &k, &errs) == 0)
			kit_done(&k);
		else
			must(errs.n_errors > 0);
		for (size_t m = 0; m < errs.n; m++)
			must(errs.v[m].line >= 0 && errs.v[m].column >= 0 && errs.v[m].message[0]);
		kit_errors_done(&errs);
	}
	kit_inputs_done(&in);
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
	check_inputs(text, size);
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

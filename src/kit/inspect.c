/* SPDX-License-Identifier: Apache-2.0 */
/* What is said about kits: the result of checking one, and what kits are made of. */
#include "kit/inspect.h"

#include <string.h>

#include "base/log.h"
#include "kit/testdata.h"

static const char *kind_name(const struct kit *k)
{
	if (k->kind == KIT_SET)
		return "set";
	if (k->kind == KIT_MIXIN)
		return "mixin";
	return k->schema == 3 ? "workload" : "sandbox";
}

/* A kit's text is not UTF-8 for certain: what is not becomes null. */
static json_t *text(const char *s)
{
	json_t *j = s ? json_string(s) : NULL;

	return j ? j : json_null();
}

static json_t *errors_json(const struct kit_errors *errs)
{
	json_t *list = json_array();

	for (size_t i = 0; i < errs->n; i++) {
		const struct kit_error *e = &errs->v[i];

		json_array_append_new(
			list, json_pack("{s:b, s:o, s:i, s:i, s:o, s:o}", "warning", e->warning,
				      "file", text(e->file), "line", e->line, "column", e->column,
				      "path", text(e->path), "message", text(e->message)));
	}
	return list;
}

static json_t *args_json(const struct kit *k)
{
	json_t *list = json_array();

	for (size_t i = 0; i < k->n_args; i++) {
		const struct kit_arg *a = &k->args[i];
		json_t *choices = json_array();

		for (size_t m = 0; m < a->choices.n; m++)
			json_array_append_new(choices, text(a->choices.v[m]));
		json_array_append_new(
			list, json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:o}", "name",
				      text(a->name), "description", text(a->description), "default",
				      text(a->fallback), "required", a->required, "enum", choices,
				      "pattern", text(a->pattern), "value", text(a->value)));
	}
	return list;
}

static json_t *relations_json(const struct kit_relation *v, size_t n)
{
	static const char *const ops[] = {"=", ">=", ">", "<=", "<"};
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *bounds = json_array();

		for (size_t m = 0; m < v[i].n_bounds; m++)
			json_array_append_new(bounds, json_pack("[s, o]", ops[v[i].bounds[m].op],
							      text(v[i].bounds[m].version)));
		json_array_append_new(
			list, json_pack("{s:o, s:o, s:o}", "name", text(v[i].name), "version",
				      text(v[i].version), "bounds", bounds));
	}
	return list;
}

static json_t *capabilities_json(const struct kit *k)
{
	json_t *list = json_array();

	for (size_t i = 0; i < k->n_capabilities; i++) {
		const struct kit_capability *c = &k->capabilities[i];

		json_array_append_new(
			list, json_pack("{s:o, s:b, s:b, s:i}", "type", text(c->type), "optional",
				      c->optional, "skipped", c->skipped, "group", c->group));
	}
	return list;
}

static json_t *texts(const struct strv *v)
{
	json_t *list = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_array_append_new(list, text(v->v[i]));
	return list;
}

static json_t *phases_json(unsigned mask)
{
	json_t *list = json_array();

	if (mask & KIT_INSTALL)
		json_array_append_new(list, json_string("install"));
	if (mask & KIT_RUNTIME)
		json_array_append_new(list, json_string("runtime"));
	return list;
}

/* What the capabilities say that the plan does not show, or only with the user's grant. */
static void put_details(const struct kit *k, json_t *o)
{
	json_t *ssh = json_array(), *folders = json_array(), *acp = json_array();
	json_t *skills = json_array(), *places = json_array();

	for (size_t i = 0; i < k->n_ssh; i++)
		json_array_append_new(
			ssh, json_pack("{s:o, s:b, s:o, s:o, s:b}", "phase",
				     phases_json(k->ssh[i].phase), "unrestricted",
				     k->ssh[i].unrestricted, "sign", texts(&k->ssh[i].sign),
				     "authenticate", texts(&k->ssh[i].logins), "optional",
				     k->ssh[i].optional));
	for (size_t i = 0; i < k->n_host_mounts; i++)
		json_array_append_new(folders, text(k->host_mounts[i].path));
	for (size_t i = 0; i < k->n_acp; i++)
		json_array_append_new(acp, json_pack("{s:o, s:o}", "agent", text(k->acp[i].agent),
						   "command", texts(&k->acp[i].command)));
	for (size_t i = 0; i < k->n_bundled; i++)
		json_array_append_new(
			skills, json_pack("{s:o, s:o}", "name", text(k->bundled[i].name), "path",
					text(k->bundled[i].path)));
	for (size_t i = 0; i < k->n_skills; i++)
		json_array_append_new(places, text(k->skills[i].path));
	json_object_set_new(o, "sshAgent", ssh);
	json_object_set_new(o, "hostMounts", folders);
	json_object_set_new(o, "acp", acp);
	json_object_set_new(o, "skills", skills);
	json_object_set_new(o, "skillDirectories", places);
	json_object_set_new(o, "usbDevices", texts(&k->usb_devices));
	json_object_set_new(o, "gitIdentity", json_boolean(k->git_identity));
	json_object_set_new(o, "longRunning", json_boolean(k->long_running));
	json_object_set_new(o, "privileged", json_boolean(k->privileged));
}

json_t *kit_json(const struct kit *k)
{
	json_t *o = json_pack("{s:o, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
		text(k->name), "kind", kind_name(k), "schemaVersion", (int)k->schema, "version",
		text(k->version), "displayName", text(k->display_name), "description",
		text(k->description), "file", text(k->file), "extends", text(k->extends), "args",
		args_json(k));

	if (k->pin) {
		json_object_set_new(o, "from", text(k->pin));
		json_object_set_new(o, "digest", text(k->digest));
	}
	if (k->schema == 3) {
		json_object_set_new(o, "provides", relations_json(k->provides, k->n_provides));
		json_object_set_new(o, "requires", relations_json(k->requires, k->n_requires));
		json_object_set_new(
			o, "integrates", relations_json(k->integrates, k->n_integrates));
		json_object_set_new(o, "conflicts", relations_json(k->conflicts, k->n_conflicts));
		json_object_set_new(o, "capabilities", capabilities_json(k));
		put_details(k, o);
	}
	return o;
}

/* One line of a stranger's text. */
static void put(FILE *out, const char *label, const char *s)
{
	char safe[2100];

	if (s && *s)
		fprintf(out, "  %-13s %s\n", label,
			log_safe(safe, sizeof(safe), s, strcspn(s, "\n")));
}

static void print_ssh(const struct kit_ssh *s, FILE *out)
{
	const char *when = s->phase == KIT_INSTALL ? " (install)"
						   : (s->phase == KIT_RUNTIME ? "" : " (both phases)");
	_free_ char *any = xasprintf("every key, any signature%s", when);

	if (s->unrestricted)
		put(out, "ssh-agent", any);
	for (size_t i = 0; i < s->sign.n; i++) {
		_free_ char *line = xasprintf("signatures of %s%s", s->sign.v[i], when);

		put(out, "ssh-agent", line);
	}
	for (size_t i = 0; i < s->logins.n; i++) {
		_free_ char *line = xasprintf("log in at %s%s", s->logins.v[i], when);

		put(out, "ssh-agent", line);
	}
}

/* What capabilities of "3" say. */
static void print_details(const struct kit *k, FILE *out)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];
		_free_ char *line = xasprintf("%s%s%s%s", c->service, c->env ? " as " : "",
			c->env ? c->env : "",
			c->phase == KIT_INSTALL ? " (install)"
						: (c->phase == KIT_RUNTIME ? "" : " (both phases)"));

		put(out, "credential", line);
	}
	for (size_t i = 0; i < k->n_ssh; i++)
		print_ssh(&k->ssh[i], out);
	for (size_t i = 0; i < k->n_host_mounts; i++)
		put(out, "shared folder", k->host_mounts[i].path);
	for (size_t i = 0; i < k->n_volumes; i++)
		put(out, "volume", k->volumes[i].path);
	for (size_t i = 0; i < k->n_ports; i++) {
		_free_ char *line = xasprintf("%u/%s %s", k->ports[i].container,
			k->ports[i].udp ? "udp" : "tcp", k->ports[i].name ? k->ports[i].name : "");

		put(out, "port", line);
	}
	for (size_t i = 0; i < k->usb_devices.n; i++)
		put(out, "USB device", k->usb_devices.v[i]);
	for (size_t i = 0; i < k->n_skills; i++)
		put(out, "skills in", k->skills[i].path);
	for (size_t i = 0; i < k->n_bundled; i++)
		put(out, "skill", k->bundled[i].name);
	for (size_t i = 0; i < k->n_acp; i++)
		put(out, "ACP agent", k->acp[i].agent);
}

void kit_print(const struct kit *k, FILE *out)
{
	fprintf(out, "%s: %s kit, schemaVersion %u%s\n", k->name, kind_name(k), k->schema,
		k->is_parent ? ", extended" : "");
	put(out, "from", k->pin);
	put(out, "file", k->file);
	put(out, "version", k->version);
	put(out, "description", k->description ? k->description : k->display_name);
	for (size_t i = 0; i < k->n_args; i++) {
		const struct kit_arg *a = &k->args[i];
		_free_ char *line = xasprintf("%s = %s%s%s%s", a->name,
			a->value ? a->value : "(no value)", a->required ? ", required" : "",
			a->description ? ": " : "", a->description ? a->description : "");

		put(out, "argument", line);
	}
	for (size_t i = 0; i < k->n_provides; i++) {
		_free_ char *line =
			xasprintf("%s%s%s", k->provides[i].name, k->provides[i].version ? " " : "",
				k->provides[i].version ? k->provides[i].version : "");

		put(out, "provides", line);
	}
	for (size_t i = 0; i < k->n_requires; i++)
		put(out, "requires", k->requires[i].name);
	for (size_t i = 0; i < k->n_capabilities; i++) {
		const struct kit_capability *c = &k->capabilities[i];
		_free_ char *line = xasprintf("%s%s%s", c->type, c->optional ? ", optional" : "",
			c->skipped ? ", skipped" : "");

		put(out, "capability", line);
	}
	for (size_t i = 0; i < k->n_rules && k->schema == 3; i++) {
		const struct kit_rule *r = &k->rules[i];
		_free_ char *line = xasprintf("%s %s%s", r->allow ? "allow" : "deny", r->target,
			r->phase == KIT_INSTALL ? " (install)" : "");

		put(out, "network", line);
	}
	if (k->schema == 3)
		print_details(k, out);
}

int kit_validate(const char *path, struct kit_inputs *in, bool json, FILE *out, struct err *err)
{
	struct kit_errors errs = {0};
	struct testdata_dir tests = {0};
	struct kit k = {0};
	int rc = kit_load(path, in, &k, &errs, err);

	if (rc == 0 && in && kit_inputs_check_used(in, err) < 0)
		rc = -1;
	if (rc == 0 && k.dir)
		rc = testdata_load_dir(k.dir, &tests, &errs, err);
	if (json) {
		json_t *o = json_pack("{s:b, s:o, s:o}", "ok", rc == 0, "errors",
			errors_json(&errs), "kit", rc == 0 ? kit_json(&k) : json_null());

		json_dumpf(o, out, JSON_INDENT(2));
		fputc('\n', out);
		json_decref(o);
	} else {
		kit_errors_print(&errs, out);
	}
	if (rc == 0 && !json)
		fprintf(out, "%s: %s kit %s, schemaVersion %u: ok\n", k.file, kind_name(&k),
			k.name ? k.name : "?", k.schema);
	testdata_dir_done(&tests);
	kit_done(&k);
	kit_errors_done(&errs);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Releasing kits. */
#include <string.h>

#include "kit/kit.h"

static void free_all(char **const *strings, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(*strings[i]);
}
#define FREE_ALL(...)                                                                              \
	free_all((char **const[]){__VA_ARGS__},                                                    \
		sizeof((char **const[]){__VA_ARGS__}) / sizeof(char **))

void kit_oauth_done(struct kit_oauth *o)
{
	FREE_ALL(&o->host, &o->path, &o->access_sentinel, &o->refresh_sentinel, &o->access_name,
		&o->refresh_name, &o->expires_name, &o->scope_name, &o->file, &o->file_text);
	strv_done(&o->resource_hosts);
}

static void credential_done(struct kit_credential *c)
{
	for (size_t i = 0; i < c->n_injects; i++) {
		struct kit_inject *in = &c->injects[i];

		FREE_ALL(&in->domain, &in->header, &in->format, &in->username, &in->parameter,
			&in->placeholder);
	}
	free(c->injects);
	FREE_ALL(&c->service, &c->description, &c->env);
	kit_oauth_done(&c->oauth);
}

static void steps_done(struct kit_step *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		strv_done(&v[i].argv);
		strv_done(&v[i].env);
		FREE_ALL(&v[i].user, &v[i].description);
	}
	free(v);
}

static void relations_done(struct kit_relation *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < v[i].n_bounds; k++)
			free(v[i].bounds[k].version);
		free(v[i].bounds);
		FREE_ALL(&v[i].name, &v[i].version);
	}
	free(v);
}

static void lists_done(struct kit *k)
{
	for (size_t i = 0; i < k->n_args; i++) {
		struct kit_arg *a = &k->args[i];

		FREE_ALL(&a->name, &a->description, &a->fallback, &a->pattern, &a->env,
			&a->build_arg, &a->value);
		strv_done(&a->choices);
	}
	for (size_t i = 0; i < k->n_rules; i++) {
		free(k->rules[i].target);
		strv_done(&k->rules[i].methods);
		strv_done(&k->rules[i].paths);
	}
	for (size_t i = 0; i < k->n_vars; i++)
		FREE_ALL(&k->vars[i].name, &k->vars[i].value);
	for (size_t i = 0; i < k->n_credentials; i++)
		credential_done(&k->credentials[i]);
	for (size_t i = 0; i < k->n_files; i++)
		FREE_ALL(&k->files[i].path, &k->files[i].content, &k->files[i].description);
	for (size_t i = 0; i < k->n_ports; i++)
		free(k->ports[i].name);
	for (size_t i = 0; i < k->n_volumes; i++)
		free(k->volumes[i].path);
	for (size_t i = 0; i < k->n_capabilities; i++)
		FREE_ALL(&k->capabilities[i].type, &k->capabilities[i].label);
}

static void sessions_done(struct kit_sessions *s)
{
	struct kit_verb *verbs[] = {
		&s->prompt, &s->resume, &s->last, &s->list, &s->fresh, &s->picker};

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		strv_done(&verbs[i]->tail);
}

/* What only schemaVersion "3" has. */
static void descriptor_done(struct kit *k)
{
	for (size_t i = 0; i < k->n_ssh; i++) {
		strv_done(&k->ssh[i].sign);
		strv_done(&k->ssh[i].logins);
	}
	for (size_t i = 0; i < k->n_host_mounts; i++)
		free(k->host_mounts[i].path);
	for (size_t i = 0; i < k->n_profiles; i++)
		FREE_ALL(&k->profiles[i].directory, &k->profiles[i].filename);
	for (size_t i = 0; i < k->n_skills; i++)
		free(k->skills[i].path);
	for (size_t i = 0; i < k->n_bundled; i++)
		FREE_ALL(&k->bundled[i].path, &k->bundled[i].name);
	for (size_t i = 0; i < k->n_acp; i++) {
		free(k->acp[i].agent);
		strv_done(&k->acp[i].command);
	}
	for (size_t i = 0; i < k->n_members; i++) {
		FREE_ALL(&k->members[i].ref, &k->members[i].digest);
		strv_done(&k->members[i].args);
	}
	free(k->members);
	sessions_done(&k->sessions);
	sessions_done(&k->terminal);
	strv_done(&k->usb_devices);
	free(k->ssh);
	free(k->host_mounts);
	free(k->profiles);
	free(k->skills);
	free(k->bundled);
	free(k->acp);
}

void kit_done(struct kit *k)
{
	struct strv *lists[] = {&k->licenses, &k->locked, &k->says, &k->mixins, &k->ssh_keys, &k->ssh_hosts,
		&k->sandbox.entrypoint, &k->sandbox.command_default,
		&k->sandbox.command_interactive};
	void *arrays[8];

	lists_done(k);
	descriptor_done(k);
	steps_done(k->install, k->n_install);
	steps_done(k->startup, k->n_startup);
	relations_done(k->provides, k->n_provides);
	relations_done(k->requires, k->n_requires);
	relations_done(k->integrates, k->n_integrates);
	relations_done(k->conflicts, k->n_conflicts);
	memcpy(arrays,
		((void *[]){k->args, k->rules, k->vars, k->credentials, k->files, k->ports,
			k->volumes, k->capabilities}),
		sizeof(arrays));
	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++)
		free(arrays[i]);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		strv_done(lists[i]);
	FREE_ALL(&k->dir, &k->source, &k->pin, &k->digest, &k->root, &k->file, &k->name,
		&k->version, &k->display_name, &k->description, &k->source_url, &k->author,
		&k->icon_url, &k->extends, &k->requires_agent, &k->sandbox.image,
		&k->instructions_filename, &k->instructions, &k->instructions_file, &k->recipe);
	*k = (struct kit){0};
}

void kit_set_done(struct kit_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		kit_done(&set->kits[i]);
	free(set->kits);
	*set = (struct kit_set){0};
}

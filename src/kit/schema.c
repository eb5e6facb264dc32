/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Schema of the grammars, made of the very tables that the loader reads with, so that an
 * editor knows the keys that a kit may have. */
#include "kit/schema.h"

#include <string.h>

#include "kit/args.h"
#include "kit/blocks.h"
#include "kit/check.h"
#include "kit/grammar.h"

static json_t *shape_schema(const struct shape *s);

static json_t *parse(const char *text)
{
	return json_loads(text, JSON_DECODE_ANY, NULL);
}

/* What the loaders that more than one table uses take. */
static json_t *known_schema(field_fn *load)
{
	static const struct {
		field_fn *load;
		const char *json;
	} t[] = {
		{load_string, JSON_STRING},
		{load_ignored_string, JSON_STRING},
		{load_size, JSON_STRING},
		{load_mode, "{\"type\":\"string\",\"pattern\":\"^0?[0-7]{3,4}$\"}"},
		{load_shell, JSON_STRING},
		{load_bool, "{\"type\":\"boolean\"}"},
		{load_cpus, "{\"type\":\"number\",\"minimum\":0}"},
		{load_port_number, "{\"type\":\"integer\",\"minimum\":1,\"maximum\":65535}"},
		{load_strv, JSON_STRINGS},
		{load_argv, "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1}"},
		{load_targets, JSON_STRINGS},
		{load_licenses, JSON_STRINGS},
		{load_locked, JSON_STRINGS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (t[i].load == load)
			return parse(t[i].json);
	return json_object();
}

static json_t *field_schema(const struct field *f)
{
	if (f->json)
		return parse(f->json);
	if (f->load == load_list)
		return json_pack("{s:s, s:o}", "type", "array", "items", shape_schema(f->shape));
	if (f->shape)
		return shape_schema(f->shape);
	return known_schema(f->load);
}

static json_t *shape_schema(const struct shape *s)
{
	json_t *o = json_pack("{s:s, s:b}", "type", "object", "additionalProperties", 0);
	json_t *properties = json_object(), *required = json_array();

	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		json_object_set_new(properties, f->key, field_schema(f));
		if (f->flags & FIELD_REQUIRED)
			json_array_append_new(required, json_string(f->key));
	}
	json_object_set_new(o, "properties", properties);
	if (json_array_size(required))
		json_object_set(o, "required", required);
	json_decref(required);
	return o;
}

/* A map of names to declarations. */
static json_t *args_schema(unsigned schema)
{
	return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
		shape_schema(args_shape(schema)));
}

/* One alternative per known type, with its config, and one for those of others. */
static json_t *capability_schema(void)
{
	json_t *any = json_array(), *known = json_array(), *items;

	for (size_t i = 0; i < n_capability_types; i++) {
		const struct capability_type *t = &capability_types[i];
		json_t *o = json_pack("{s:s, s:b, s:{s:{s:s}, s:o, s:o, s:o, s:o}, s:[s]}", "type",
			"object", "additionalProperties", 0, "properties", "type", "const", t->name,
			"name", parse(JSON_STRING), "description", parse(JSON_STRING), "optional",
			parse("{\"type\":\"boolean\"}"), "source", parse("{\"type\":\"object\"}"),
			"required", "type");

		if (t->config) {
			json_object_set_new(json_object_get(o, "properties"), "config",
				shape_schema(t->config));
			json_array_append_new(
				json_object_get(o, "required"), json_string("config"));
		}
		json_array_append_new(any, o);
		json_array_append_new(known, json_string(t->name));
	}
	json_array_append_new(
		any, json_pack("{s:s, s:{s:{s:s, s:{s:o}}}, s:[s]}", "type", "object", "properties",
			     "type", "type", "string", "not", "enum", known, "required", "type"));
	items = json_pack("{s:o}", "anyOf", any);
	return items;
}

static json_t *capabilities_schema(void)
{
	json_t *group =
		json_pack("{s:s, s:{s:{s:s, s:{s:o, s:o, s:o, s:{s:s, s:o}}, s:[s]}}, s:[s]}",
			"type", "object", "properties", "group", "type", "object", "properties",
			"name", parse(JSON_STRING), "description", parse(JSON_STRING), "optional",
			parse("{\"type\":\"boolean\"}"), "capabilities", "type", "array", "items",
			capability_schema(), "required", "capabilities", "required", "group");
	json_t *any = json_pack("[o, o]", capability_schema(), group);

	return json_pack("{s:s, s:{s:o}}", "type", "array", "items", "anyOf", any);
}

json_t *schema_of(const struct shape *s, const char *title)
{
	json_t *o = shape_schema(s);

	json_object_set_new(o, "$schema", json_string("http://json-schema.org/draft-07/schema#"));
	json_object_set_new(o, "title", json_string(title));
	return o;
}

json_t *kit_schema(unsigned schema)
{
	const struct shape *const shapes[] = {&grammar1_shape, &grammar2_shape, &grammar3_shape};
	json_t *o, *properties;
	char title[64];

	if (schema < 1 || schema > 3)
		return NULL;
	snprintf(title, sizeof(title), "Hutch kit, schemaVersion \"%u\"", schema);
	o = schema_of(shapes[schema - 1], title);
	properties = json_object_get(o, "properties");
	json_object_set_new(o, "required", json_pack("[s, s]", "schemaVersion", "kind"));
	if (schema < 3)
		json_array_append_new(json_object_get(o, "required"), json_string("name"));
	if (schema >= 2)
		json_object_set_new(properties, "args", args_schema(schema));
	if (schema == 3)
		json_object_set_new(properties, "capabilities", capabilities_schema());
	return o;
}

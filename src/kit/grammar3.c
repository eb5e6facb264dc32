/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": the descriptor of a kit that is an image. Top level, relations between kits,
 * and the list of capabilities; what their configs look like is in capabilities.c. */
#include "kit/grammar.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/args.h"
#include "kit/blocks.h"
#include "kit/check.h"

#define LOWER         "abcdefghijklmnopqrstuvwxyz"
#define DIGITS        "0123456789"
#define RELATIONS_MAX 64
#define BARE          "com.docker.kit/"

/* ---- relations ---- */

static const char *check_version(const char *s)
{
	static const char expected[] = "a version such as 1.4.2, without a leading v";

	if (strlen(s) > 128 || !*s || s[strspn(s, DIGITS)] == *s)
		return expected;
	s += strspn(s, DIGITS);
	while (*s) {
		size_t n;

		if (*s++ != '.')
			return expected;
		n = strspn(s, LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-");
		if (!n)
			return expected;
		s += n;
	}
	return NULL;
}

static bool is_label(const char *s, size_t n)
{
	return n >= 1 && n <= 63 && s[0] != '-' && s[n - 1] != '-' &&
	       strspn(s, LOWER DIGITS "-") >= n;
}

/* Reverse-DNS: two labels or more. */
static bool is_namespace(const char *s, size_t len)
{
	size_t at = 0, labels = 0;

	while (len <= 253 && at <= len) {
		size_t n = strcspn(s + at, "./");

		if (at + n > len || !is_label(s + at, n))
			return false;
		labels++;
		at += n + 1;
		if (at > len)
			return labels >= 2;
	}
	return false;
}

/* The first @len bytes of @s as a full name, owned; NULL with *ret_why. */
static char *relation_name(const char *s, size_t len, const char **ret_why)
{
	const char *slash = memchr(s, '/', len), *base = slash ? slash + 1 : s;
	size_t n = len - (size_t)(base - s);

	*ret_why = "expected a name of lower-case letters, digits, hyphens, dots and pluses";
	if (n < 1 || n > 64 || strspn(base, LOWER DIGITS "+.-") < n ||
		!strchr(LOWER DIGITS, *base) || base[n - 1] == '-' || base[n - 1] == '.')
		return NULL;
	if (!slash)
		return xasprintf(BARE "%.*s", (int)len, s);
	*ret_why = "deb/ and apk/ are derived from the image's packages, never written";
	if ((slash - s == 3) && (strncmp(s, "deb", 3) == 0 || strncmp(s, "apk", 3) == 0))
		return NULL;
	*ret_why = "expected a namespace of yours, such as com.example/";
	return is_namespace(s, (size_t)(slash - s)) ? xstrndup(s, len) : NULL;
}

static size_t name_length(const char *s)
{
	return strcspn(s, " \t@<>=,");
}

/* name[@version] */
static const char *parse_provide(const char *s, struct kit_relation *r)
{
	size_t n = name_length(s);
	const char *why = NULL;

	r->name = relation_name(s, n, &why);
	if (!r->name)
		return why;
	if (!s[n])
		return NULL;
	if (s[n] != '@')
		return "expected NAME or NAME@VERSION";
	r->version = xstrdup(s + n + 1);
	return check_version(r->version) ? "expected a version such as 1.4.2 after @" : NULL;
}

static const char *parse_bound(const char **at, struct kit_relation *r)
{
	static const struct {
		const char *text;
		enum kit_op op;
	} ops[] = {{">=", KIT_OP_GE}, {"<=", KIT_OP_LE}, {">", KIT_OP_GT}, {"<", KIT_OP_LT},
		{"=", KIT_OP_EQ}};
	struct kit_bound b = {0};
	size_t i = 0, n;

	*at += strspn(*at, " \t");
	while (i < ARRAY_SIZE(ops) && strncmp(*at, ops[i].text, strlen(ops[i].text)) != 0)
		i++;
	if (i == ARRAY_SIZE(ops) || r->n_bounds == 8)
		return "expected NAME, or NAME >= VERSION with >=, >, <=, < or =";
	b.op = ops[i].op;
	*at += strlen(ops[i].text);
	*at += strspn(*at, " \t");
	n = strcspn(*at, " \t,");
	b.version = xstrndup(*at, n);
	*at += n;
	*at += strspn(*at, " \t");
	r->bounds = xrealloc(r->bounds, r->n_bounds + 1, sizeof(*r->bounds));
	r->bounds[r->n_bounds++] = b;
	if (check_version(b.version))
		return "expected a version such as 1.4.2, without a leading v";
	return NULL;
}

/* name [op version[, op version]] */
static const char *parse_require(const char *s, struct kit_relation *r)
{
	size_t n = name_length(s);
	const char *why = NULL;

	r->name = relation_name(s, n, &why);
	if (!r->name)
		return why;
	s += n;
	s += strspn(s, " \t");
	while (*s) {
		why = parse_bound(&s, r);
		if (why)
			return why;
		if (*s && *s++ != ',')
			return "expected a comma between two bounds";
		if (!*s && s[-1] == ',')
			return "ends with a comma";
	}
	return NULL;
}

static const char *parse_conflict(const char *s, struct kit_relation *r)
{
	const char *why = NULL;

	r->name = relation_name(s, strlen(s), &why);
	return r->name ? NULL : why;
}

static void load_relations(struct load *l, const struct ynode *n, void *base, const struct field *f,
	const char *(*parse)(const char *s, struct kit_relation *r))
{
	struct kit_relation **list = FIELD_AT(base, f, struct kit_relation *);
	size_t *count = FIELD_N(base, f);

	if (!load_is_list(l, n, "a list of strings"))
		return;
	if (n->n > RELATIONS_MAX) {
		load_error(l, n, "%zu entries, expected at most %d", n->n, RELATIONS_MAX);
		return;
	}
	*list = xcalloc(n->n + 1, sizeof(**list));
	for (size_t i = 0; i < n->n; i++) {
		const char *s = load_scalar(l, n->items[i], "a string"), *why;
		struct kit_relation *r = &(*list)[*count];
		struct args_ref ref;
		char safe[64];

		if (!s)
			continue;
		(*count)++;
		if (args_next_ref(s, strlen(s), 0, &ref)) {
			load_error(l, n->items[i],
				"refers to an argument, allowed in provides and version only");
			continue;
		}
		why = parse(s, r);
		if (why)
			load_error(l, n->items[i], "\"%s\", %s",
				log_safe(safe, sizeof(safe), s, strlen(s)), why);
		for (size_t k = 0; r->name && k + 1 < *count; k++)
			if ((*list)[k].name && strcmp((*list)[k].name, r->name) == 0) {
				load_error(l, n->items[i], "twice in the list");
				break;
			}
	}
}

static void load_provides(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_relations(l, n, base, f, parse_provide);
}

static void load_requires(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_relations(l, n, base, f, parse_require);
}

static void load_conflicts(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_relations(l, n, base, f, parse_conflict);
}

/* ---- capabilities ---- */

const struct capability_type *capability_find(const char *name)
{
	for (size_t i = 0; i < n_capability_types; i++)
		if (strcmp(capability_types[i].name, name) == 0)
			return &capability_types[i];
	return NULL;
}

/* <namespace>/<name>@<version> */
static const char *check_type(const char *s)
{
	static const char expected[] = "a type such as com.docker.sandbox/volume@1";
	const char *slash = strchr(s, '/'), *at = strchr(s, '@');
	size_t n;

	if (!slash || !at || at < slash || strlen(s) > 400 || s[strspn(s, LOWER DIGITS "./@-")])
		return expected;
	n = (size_t)(at - slash - 1);
	if (!is_label(slash + 1, n) || !at[1] || at[1] == '0' || strlen(at + 1) > 6 ||
		at[1 + strspn(at + 1, DIGITS)])
		return expected;
	for (const char *p = s; p < slash; p += strcspn(p, "./") + 1)
		if (!is_label(p, strcspn(p, "./")))
			return expected;
	return NULL;
}

static void load_source(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	static const struct field rows[] = {
		CUSTOM_ROW("kit", load_ignored_string, JSON_STRING),
		CUSTOM_ROW("path", load_ignored_string, JSON_STRING),
	};
	static const struct shape shape = SHAPE(kit_capability, rows);

	load_map(l, n, base, &shape);
}

#define JSON_SOURCE                                                                                \
	"{\"type\":\"object\",\"properties\":{\"kit\":" JSON_STRING ",\"path\":" JSON_STRING       \
	"},\"additionalProperties\":false}"
static const struct field capability_rows[] = {
	ROW(kit_capability, "type", load_string, type, FIELD_REQUIRED, check_type),
	ROW(kit_capability, "name", load_string, label, 0, check_text),
	ROW(kit_capability, "optional", load_bool, optional),
	CUSTOM_ROW("description", load_ignored_string, JSON_STRING),
	CUSTOM_ROW("config", load_nothing, "{\"type\":\"object\"}"),
	CUSTOM_ROW("source", load_source, JSON_SOURCE),
};
static const struct shape capability_shape = SHAPE(kit_capability, capability_rows);

static void load_config(
	struct load *l, const struct ynode *n, struct kit *k, const struct capability_type *t)
{
	const struct ynode *config = ynode_get(n, "config");

	if (!t->config) {
		if (config)
			load_error_key(l, config, "%s takes no config", t->name);
		if (t->flag)
			*(bool *)(void *)((char *)k + t->flag) = true;
	} else if (!config) {
		load_error(l, n, "config is missing");
	} else if (config->kind != YNODE_MAP) {
		load_is_map(l, config);
	} else if (t->add) {
		t->add(l, config, k);
	} else {
		load_map(l, config, k, t->config);
	}
}

static void check_known(struct load *l, const struct ynode *n, struct kit_capability *c)
{
	const struct ynode *type = ynode_get(n, "type");
	const struct capability_type *t = capability_find(c->type);
	size_t before = l->errs->n_errors;

	c->known = t != NULL;
	if (t && t->unavailable && c->optional)
		load_warn(l, type, "skipped: %s", t->unavailable);
	else if (t && t->unavailable)
		load_warn(l, type, "the kit cannot run here: %s", t->unavailable);
	if (t)
		return;
	if (c->optional)
		load_warn(l, type, "unknown here and optional, so it is skipped");
	else
		load_error(l, type,
			"the kit requires %s, which Hutch does not know; optional: true would let "
			"it go without",
			c->type);
	l->errs->n_refused += l->errs->n_errors - before;
}

/* At most one of a kind per block; network-policy in one version. */
static void check_arity(struct load *l, const struct ynode *n, const struct kit *k)
{
	const struct kit_capability *c = &k->capabilities[k->n_capabilities - 1];
	const struct capability_type *t = capability_find(c->type);
	static const char policy[] = "com.docker.sandbox/network-policy@";

	for (size_t i = 0; i + 1 < k->n_capabilities; i++) {
		const struct kit_capability *o = &k->capabilities[i];

		if (o->group != c->group)
			continue;
		if (t && t->singleton && strcmp(o->type, c->type) == 0)
			load_error(l, n, "%s twice, one is allowed", c->type);
		else if (strcmp(o->type, c->type) != 0 &&
			 strncmp(o->type, policy, sizeof(policy) - 1) == 0 &&
			 strncmp(c->type, policy, sizeof(policy) - 1) == 0)
			load_error(l, n, "network-policy in two versions, one is allowed");
	}
}

/* What is skipped is checked all the same, and forgotten. */
static void load_apart(
	struct load *l, const struct ynode *n, const struct kit *k, const struct capability_type *t)
{
	struct kit apart = {.kind = k->kind};

	load_config(l, n, &apart, t);
	kit_done(&apart);
}

static void load_capability(struct load *l, const struct ynode *n, struct kit *k, int group,
	bool group_optional, bool skipped)
{
	struct kit_capability c = {.at = n,
		.group = group,
		.optional = group_optional,
		.item = group >= 0 ? (size_t)group : n->index,
		.member = n->index};
	bool had_identity = k->git_identity;
	const struct capability_type *t;

	load_map(l, n, &c, &capability_shape);
	if (!c.type) {
		free(c.label);
		return;
	}
	if (group >= 0 && ynode_get(n, "optional"))
		load_error_key(l, ynode_get(n, "optional"),
			"not allowed in a group, which is optional as a whole");
	k->capabilities =
		xrealloc(k->capabilities, k->n_capabilities + 1, sizeof(*k->capabilities));
	t = capability_find(c.type);
	c.skipped = skipped || (c.optional && (!t || t->unavailable));
	k->capabilities[k->n_capabilities++] = c;
	check_known(l, n, &k->capabilities[k->n_capabilities - 1]);
	check_arity(l, n, k);
	if (t && c.skipped)
		load_apart(l, n, k, t);
	else if (t)
		load_config(l, n, k, t);
	if (!c.skipped && k->git_identity && !had_identity)
		k->git_optional = c.optional;
}

struct group {
	bool optional;
};
static const struct field group_rows[] = {
	CUSTOM_ROW("name", load_ignored_string, JSON_STRING),
	CUSTOM_ROW("description", load_ignored_string, JSON_STRING),
	ROW(group, "optional", load_bool, optional),
	{"capabilities", load_nothing, 0, 0, FIELD_REQUIRED, NULL, NULL, "{\"type\":\"array\"}"},
};
static const struct shape group_shape = SHAPE(group, group_rows);
static const struct field group_item_rows[] = {
	{"group", load_nothing, 0, 0, FIELD_REQUIRED, NULL, &group_shape},
	CUSTOM_ROW("source", load_source, JSON_SOURCE),
};
static const struct shape group_item_shape = SHAPE(group, group_item_rows);

/* A group is chosen as a whole: whether all of its types can be had. */
static bool can_have_all(const struct ynode *list)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct ynode *type = ynode_get(list->items[i], "type");
		const struct capability_type *t =
			type && type->value ? capability_find(type->value) : NULL;

		if (!t || t->unavailable)
			return false;
	}
	return true;
}

static void load_group(struct load *l, const struct ynode *item, struct kit *k, int number)
{
	const struct ynode *n = ynode_get(item, "group"), *list;
	struct group g = {0};

	load_map(l, item, &g, &group_item_shape);
	load_map(l, n, &g, &group_shape);
	list = ynode_get(n, "capabilities");
	if (!list || !load_is_list(l, list, "a list of capabilities"))
		return;
	if (!list->n)
		load_error(l, list, "an empty group");
	for (size_t i = 0; i < list->n; i++) {
		if (ynode_get(list->items[i], "group"))
			load_error(l, list->items[i], "a group inside of a group");
		else
			load_capability(l, list->items[i], k, number, g.optional,
				g.optional && !can_have_all(list));
	}
}

static void load_capabilities(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (!load_is_list(l, n, "a list of capabilities"))
		return;
	if (n->n > 256) {
		load_error(l, n, "%zu entries, expected at most 256", n->n);
		return;
	}
	for (size_t i = 0; i < n->n; i++) {
		if (n->items[i]->kind == YNODE_BAD)
			continue;
		if (ynode_get(n->items[i], "group"))
			load_group(l, n->items[i], k, (int)i);
		else
			load_capability(l, n->items[i], k, -1, false, false);
	}
}

/* ---- sets ---- */

static const char *check_registry_ref(const char *s)
{
	return check_image(s) || strchr("./", *s) || strstr(s, "://") || !strchr(s, '/')
		       ? "a reference in a registry, such as registry.example.com/kits/x:1.0"
		       : NULL;
}

static const char *check_digest(const char *s)
{
	return strncmp(s, "sha256:", 7) == 0 && strlen(s) == 71 &&
			       strspn(s + 7, DIGITS "abcdef") == 64
		       ? NULL
		       : "sha256: and 64 hexadecimal digits";
}

static void load_set_args(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct strv *to = FIELD_AT(base, f, struct strv);

	if (!load_is_map(l, n))
		return;
	for (size_t i = 0; i < n->n; i++) {
		const char *value = load_scalar(l, n->items[i], "a string");

		if (value)
			strv_addf(to, "%s=%s", n->items[i]->key, value);
	}
}

static const struct field member_rows[] = {
	ROW(kit_member, "ref", load_string, ref, FIELD_REQUIRED, check_registry_ref),
	ROW(kit_member, "digest", load_string, digest, 0, check_digest),
	ROW(kit_member, "args", load_set_args, args, 0, NULL, NULL, JSON_VARS),
};
static const struct shape member_shape = SHAPE(kit_member, member_rows, NULL, NULL, 64);

/* ---- the whole ---- */

static void load_kind(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "workload, mixin or set");
	enum kit_kind *kind = FIELD_AT(base, f, enum kit_kind);
	char safe[48];

	if (!s)
		return;
	if (strcmp(s, "mixin") == 0)
		*kind = KIT_MIXIN;
	else if (strcmp(s, "set") == 0)
		*kind = KIT_SET;
	else if (strcmp(s, "sandbox") == 0)
		load_warn(l, n, "the old spelling of workload, which published kits may have");
	else if (strcmp(s, "workload") != 0)
		load_error(l, n, "\"%s\", expected workload, mixin or set",
			log_safe(safe, sizeof(safe), s, strlen(s)));
}

static const char *check_https(const char *s)
{
	return strncmp(s, "https://", 8) == 0 && !check_url(s) ? NULL : "an https URL";
}

static const char *check_recipe(const char *s)
{
	return *s && *s != '/' && strcmp(s, "..") && strncmp(s, "../", 3) && !strstr(s, "/../") &&
			       !check_text(s)
		       ? NULL
		       : "a path beside the descriptor";
}

static void load_build(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (load_scalar(l, n, "the text of a Dockerfile") && !k->recipe)
		k->recipe = xstrdup("build");
}

static void load_version(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_string(l, n, base, f);
}

#define RELATION_ROW(key, fn, m)                                                                   \
	{                                                                                          \
		key, fn, offsetof(struct kit, m), offsetof(struct kit, n_##m), 0, NULL, NULL,      \
			JSON_STRINGS                                                               \
	}
static const struct field kit_rows[] = {
	CUSTOM_ROW("schemaVersion", load_nothing, "{\"const\":\"3\"}"),
	ROW(kit, "kind", load_kind, kind, FIELD_REQUIRED, NULL, NULL,
		"{\"enum\":[\"workload\",\"mixin\",\"set\"]}"),
	ROW(kit, "displayName", load_string, display_name, 0, check_text),
	ROW(kit, "author", load_string, author, 0, check_text),
	ROW(kit, "description", load_string, description),
	ROW(kit, "sourceUrl", load_string, source_url, 0, check_url),
	ROW(kit, "iconUrl", load_string, icon_url, 0, check_https),
	ROW(kit, "version", load_version, version, 0, check_version, NULL, JSON_STRING),
	ROW(kit, "licenses", load_licenses, licenses, 0, check_text),
	RELATION_ROW("provides", load_provides, provides),
	RELATION_ROW("requires", load_requires, requires),
	RELATION_ROW("integrates", load_requires, integrates),
	RELATION_ROW("conflicts", load_conflicts, conflicts),
	CUSTOM_ROW("capabilities", load_capabilities, "{\"type\":\"array\"}"),
	{"args", load_nothing, 0, 0, 0, NULL, NULL, JSON_ANY}, /* read before: args.h */
	CUSTOM_ROW("build", load_build, JSON_STRING),
	ROW(kit, "dockerfile", load_string, recipe, 0, check_recipe),
	LIST_ROW(kit, "kits", members, member_shape),
};
static const struct moved kit_moved[] = {
	{"name", "the reference that the kit is used by"},
	{"sourceURL", "sourceUrl"},
	{"iconURL", "iconUrl"},
	{"sandbox", "the image that the Dockerfile makes"},
	{"extends", "FROM in the Dockerfile"},
	{"permissions", "the capability com.docker.sandbox/network-policy@1"},
	{"credentials", "the capability com.docker.sandbox/credential@1"},
	{"setup", "the capability com.docker.sandbox/lifecycle@1"},
	{"ports", "the capability com.docker.sandbox/port@1"},
	{"volumes", "the capability com.docker.sandbox/volume@1"},
	{"agentInstructions", "the capability com.docker.sandbox/agent-context@1"},
	{"security", "the capability com.docker.sandbox/privileged@1"},
	{"environment", "ENV in the Dockerfile, or env of an argument"},
	{NULL, NULL},
};

static void finish_kit(struct load *l, const struct ynode *n, void *entry)
{
	static const char *const recipes[] = {"build", "dockerfile", "kits"};
	const struct ynode *first = NULL, *kits = ynode_get(n, "kits");
	const struct kit *k = entry;

	for (size_t i = 0; i < ARRAY_SIZE(recipes); i++) {
		const struct ynode *at = ynode_get(n, recipes[i]);

		if (at && first)
			load_error_key(
				l, at, "next to %s, only one of the two is allowed", first->key);
		else if (at)
			first = at;
	}
	if (k->kind == KIT_SET && (!kits || !kits->n))
		load_error(l, kits ? kits : n, "a set without kits, expected at least one");
}

const struct shape grammar3_shape = SHAPE(kit, kit_rows, kit_moved, finish_kit);

void grammar3_load(struct load *l, const struct ynode *root, struct kit *k)
{
	load_map(l, root, k, &grammar3_shape);
}

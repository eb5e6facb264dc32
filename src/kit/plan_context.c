/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": what an agent finds in the sandbox to read. Every file where an agent looks for
 * instructions gets an index of what the kits have to say; what they say is in files of their own. */
#include <string.h>

#include "base/buf.h"
#include "kit/plan_parts.h"

#define INDEX_MAX 65536
#define BEGIN     "<!-- kits -->"
#define END       "<!-- /kits -->"

/* $1 file, $2 text between two marks. What else is in the file stays; directories that are made
 * belong to the agent. */
static const char profile_script[] =
	"d=${1%/*}; while [ ! -d \"$d\" ]; do new=\"$d\"; d=${d%/*}; d=${d:-/}; done\n"
	"mkdir -p \"${1%/*}\" || exit\n"
	"[ -z \"$new\" ] || chown -R 1000:1000 \"$new\"\n"
	"[ ! -e \"$1\" ] || sed -i '/^<!-- kits -->$/,/^<!-- \\/kits -->$/d' \"$1\" || exit\n"
	"printf '%s' \"$2\" >>\"$1\" && chown 1000:1000 \"$1\"";

/* $1 directory in the image, $2 name, then the places where agents look. What has the name already is
 * somebody else's skill. */
static const char skill_script[] =
	"from=$1 name=$2; shift 2\n"
	"[ -f \"$from/SKILL.md\" ] || { echo \"$from: no SKILL.md\" >&2; exit 1; }\n"
	"for d; do\n"
	"	[ ! -e \"$d/$name\" ] || { echo \"$d/$name: is there already\" >&2; exit 1; }\n"
	"	mkdir -p \"$d\" && ln -s \"$from\" \"$d/$name\" || exit\n"
	"done";
/* The same for one that may be missing. */
#define OPTIONAL_BEGIN "(\n"
#define OPTIONAL_END   "\n) || echo \"skipped\" >&2"

void plan_add_own_step(struct box_spec *s, const char *kit, const char *user, const char *description,
	const char *script, const char *const *args, size_t n_args)
{
	struct spec_step *to;

	s->install = xrealloc(s->install, s->n_install + 1, sizeof(*s->install));
	to = &s->install[s->n_install++];
	*to = (struct spec_step){
		.user = xstrdup(user), .description = xstrdup(description), .kit = xstrdup(kit)};
	strv_add(&to->argv, "sh");
	strv_add(&to->argv, "-c");
	strv_add(&to->argv, script);
	strv_add(&to->argv, "hutch");
	for (size_t i = 0; i < n_args; i++)
		strv_add(&to->argv, args[i]);
}

static bool is_in_image(const struct kit *k)
{
	return k->instructions_file && k->instructions_file[0] == '/';
}

/* Marks of the index in a kit's words would end it early. */
static char *neutral(const char *text)
{
	_buf_ struct buf out = {.max = 4u << 20};

	while (*text) {
		const char *a = strstr(text, BEGIN), *b = strstr(text, END);
		const char *at = a && (!b || a < b) ? a : b;

		if (!at)
			break;
		buf_put(&out, text, (size_t)(at - text));
		text = at + (at == a ? strlen(BEGIN) : strlen(END));
	}
	buf_puts(&out, text);
	return xstrdup(buf_cstr(&out));
}

/* One line of a stranger's text. */
static void put_line(struct buf *b, const char *s)
{
	for (; *s && *s != '\n'; s++)
		if (*s != '`' && (unsigned char)*s >= ' ')
			buf_put(b, s, 1);
}

static void put_entry(struct box_spec *s, const struct kit *k, struct buf *index)
{
	_free_ char *own = xasprintf("%s/kits-memory/%s.md", PLAN_HOME, k->name);
	_free_ char *title = neutral(k->display_name ? k->display_name : k->name);

	if (!k->instructions && !is_in_image(k))
		return;
	if (!is_in_image(k))
		plan_add_agent_file(s, k->name, own, neutral(k->instructions), 0644, false);
	buf_puts(index, "- `");
	put_line(index, is_in_image(k) ? k->instructions_file : own);
	buf_puts(index, "`: ");
	put_line(index, title);
	buf_puts(index, "\n");
}

static void add_profile(
	struct box_spec *s, const struct kit *k, const struct kit_profile *p, const char *index)
{
	const char *slash = strrchr(s->workdir, '/');
	_free_ char *beside = xstrndup(s->workdir, MAX((size_t)(slash - s->workdir), (size_t)1));
	const char *dir = p->directory;
	_free_ char *path = NULL;

	if (!dir) /* beside the workspace, unless that is the user's as well */
		dir = plan_in_mount(s, beside) || strcmp(beside, "/") == 0 ? PLAN_HOME : beside;
	path = xasprintf("%s/%s", dir, p->filename);
	for (size_t i = 0; i < s->n_install; i++)
		if (s->install[i].argv.n == 6 && strcmp(s->install[i].argv.v[2], profile_script) == 0 &&
			strcmp(s->install[i].argv.v[4], path) == 0)
			return; /* two kits, one place */
	plan_add_own_step(s, k->name, "0", "instructions for the agent", profile_script,
		(const char *const[]){path, index}, 2);
}

static void add_profiles(
	struct box_spec *s, const struct kit *const *order, size_t n, const char *index)
{
	static const struct kit_profile usual = {NULL, (char *)(uintptr_t)"AGENTS.md"};
	bool explicit = false;
	size_t added = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m < order[i]->n_profiles; m++)
			explicit |= order[i]->profiles[m].directory != NULL;
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m < order[i]->n_profiles; m++)
			if (order[i]->profiles[m].directory || !explicit) {
				add_profile(s, order[i], &order[i]->profiles[m], index);
				added++;
			}
	if (!added)
		add_profile(s, order[0], &usual, index);
}

/* ---- skills ---- */

static void skill_places(const struct kit *const *order, size_t n, struct strv *ret)
{
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m < order[i]->n_skills; m++)
			if (!strv_has(ret, order[i]->skills[m].path))
				strv_add(ret, order[i]->skills[m].path);
}

static void add_skill(struct box_spec *s, const struct kit *k, const struct kit_skill *skill,
	const struct strv *places)
{
	_free_ char *what = xasprintf("skill %s", skill->name);
	_free_ char *script = xasprintf("%s%s%s", skill->optional ? OPTIONAL_BEGIN : "", skill_script,
		skill->optional ? OPTIONAL_END : "");
	const char **args = xcalloc(places->n + 2, sizeof(*args));

	args[0] = skill->path;
	args[1] = skill->name;
	for (size_t i = 0; i < places->n; i++)
		args[i + 2] = places->v[i];
	plan_add_own_step(s, k->name, "1000", what, script, args, places->n + 2);
	free(args);
}

static int add_skills(struct box_spec *s, const struct kit *const *order, size_t n, struct err *err)
{
	struct strv places = {0}, done = {0};
	int result = 0;

	skill_places(order, n, &places);
	for (size_t i = 0; result == 0 && i < n; i++)
		for (size_t m = 0; result == 0 && m < order[i]->n_bundled; m++) {
			const struct kit_skill *skill = &order[i]->bundled[m];

			if (strv_has(&done, skill->name))
				continue;
			strv_add(&done, skill->name);
			if (places.n)
				add_skill(s, order[i], skill, &places);
			else if (skill->optional)
				result = plan_reject(
					s, order[i], "com.docker.sandbox/agent-skill@1", err);
			else if (!skill->optional)
				result = err_set(err, ERR_REFUSED,
					"kit %s: requires com.docker.sandbox/agent-skill@1 for skill %s, "
					"and no kit here has an agent that looks for skills",
					order[i]->name, skill->name);
		}
	strv_done(&places);
	strv_done(&done);
	return result;
}

int plan_add_context(struct box_spec *s, const struct kit *const *order, size_t n, struct err *err)
{
	_buf_ struct buf index = {.max = INDEX_MAX};
	size_t empty;

	buf_puts(&index, BEGIN "\n## Sandbox\n\n"
			       "This is a sandbox made by Hutch. Only some network destinations are "
			       "allowed; a refusal\nsays which rule decided.\n");
	empty = buf_len(&index);
	for (size_t i = 0; i < n; i++) {
		if (buf_len(&index) == empty && (order[i]->instructions || is_in_image(order[i])))
			buf_puts(&index, "\n## Kits\n\nRead these when they matter:\n\n");
		put_entry(s, order[i], &index);
	}
	buf_puts(&index, END "\n");
	if (index.failed)
		return err_set(err, ERR_USER, "the kits have too much to say: more than %d KiB of index",
			INDEX_MAX >> 10);
	add_profiles(s, order, n, buf_cstr(&index));
	return add_skills(s, order, n, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Another plan for a sandbox that exists. The words that it was made with are said again, with what
 * the user has to say now; then everything that belongs to the sandbox and not to its kits is taken
 * over: its volumes, mounted or not, the user's rules and ports. */
#include "cli/recompose.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/approve.h"
#include "cli/boxes.h"
#include "cli/request.h"
#include "cli/rules.h"
#include "cli/secrets.h"

bool recompose_wanted(const struct recompose *how)
{
	return how->agent || how->kits.n || how->kit_args.n || how->args_files.n;
}

/* ---- what to say ---- */

static bool begins(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

/* Whether the arguments @a and @b of kits ("[KIT.]NAME=VALUE") are about the same. */
static bool same_argument(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && b[n] == '=';
}

static bool is_overridden(const struct recompose *how, const char *word)
{
	static const char arg[] = "--kit-arg=";

	if (how->agent && begins(word, "--kit="))
		return true;
	for (size_t i = 0; begins(word, arg) && i < how->kit_args.n; i++)
		if (same_argument(how->kit_args.v[i], word + strlen(arg)))
			return true;
	return false;
}

/* A path is one of the directory where the user is now. */
static void add_place(struct strv *to, const char *option, const char *place)
{
	_free_ char *path = fs_exists(place) ? realpath(place, NULL) : NULL;

	strv_addf(to, "%s%s", option, path ? path : place);
}

static void say_again(
	const struct recompose *how, const struct box_spec *was, struct strv *ret, size_t *ret_kept)
{
	const struct strv *old = &was->made_with;
	size_t i = 0;

	strv_add(ret, "recreate");
	for (; i < old->n && begins(old->v[i], "--"); i++)
		if (!is_overridden(how, old->v[i])) {
			strv_add(ret, old->v[i]);
			*ret_kept += begins(old->v[i], "--kit-arg=");
		}
	for (size_t m = 0; m < how->kit_args.n; m++)
		strv_addf(ret, "--kit-arg=%s", how->kit_args.v[m]);
	for (size_t m = 0; m < how->args_files.n; m++)
		add_place(ret, "--kit-args-file=", how->args_files.v[m]);
	for (size_t m = 0; m < how->kits.n; m++)
		add_place(ret, "--kit=", how->kits.v[m]);
	if (how->agent)
		add_place(ret, "", how->agent);
	for (i += how->agent != NULL; i < old->n; i++)
		strv_add(ret, old->v[i]);
}

/* ---- what stays ---- */

static int take_volume(const struct spec_volume *v, struct box_spec *s, struct err *err)
{
	struct spec_volume *w;

	for (size_t i = 0; i < s->n_volumes; i++) {
		w = &s->volumes[i];
		if (strcmp(w->path, v->path) != 0)
			continue;
		if (w->tmpfs == v->tmpfs && w->size_bytes == v->size_bytes && w->mode == v->mode &&
			w->zero_size == v->zero_size && w->zero_mode == v->zero_mode)
			return 0;
		err_set(err, ERR_REFUSED,
			"kit %s: volume %s, which the sandbox has with another size, kind or mode",
			w->kit, w->path);
		return err_hint(err, "another path, or another sandbox");
	}
	if (v->tmpfs)
		return 0;
	s->volumes = xrealloc(s->volumes, s->n_volumes + 1, sizeof(*s->volumes));
	s->volumes[s->n_volumes] = *v;
	w = &s->volumes[s->n_volumes++];
	w->path = xstrdup(v->path);
	w->kit = xstrdup(v->kit);
	w->retained = true;
	return 0;
}

static void take_rules(const struct box_spec *was, struct box_spec *s)
{
	struct ruleset set = {.lock = -1, .rules = &s->net.rules, .n = &s->net.n_rules};

	for (size_t i = 0; i < was->net.n_rules; i++) {
		const struct spec_rule *r = &was->net.rules[i];

		if (begins(r->source, RULES_SOURCE_BOX))
			ruleset_add(&set, r->allow, r->target, r->source);
	}
	s->net.learn = was->net.learn;
}

static void take_ports(const struct box_spec *was, struct box_spec *s)
{
	for (size_t i = 0; i < was->n_ports; i++) {
		const struct spec_port *p = &was->ports[i];
		size_t m = 0;

		while (m < s->n_ports &&
			(s->ports[m].container != p->container || s->ports[m].udp != p->udp))
			m++;
		if (m < s->n_ports) {
			s->ports[m].host = p->host;
		} else if (strcmp(p->kit, "user") == 0) {
			s->ports = xrealloc(s->ports, s->n_ports + 1, sizeof(*s->ports));
			s->ports[s->n_ports++] = (struct spec_port){.container = p->container,
				.udp = p->udp,
				.name = xstrdup(p->name),
				.kit = xstrdup(p->kit),
				.host = p->host};
		}
	}
}

/* The old trees stay until the new sandbox is there, and may be needed again. */
static void name_trees(struct box_spec *s, struct spec_tree *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *dir = xasprintf("%llu-%s", (unsigned long long)s->generation + 1, t[i].dir);

		free(t[i].dir);
		t[i].dir = dir;
	}
}

static int take_over(const struct box_spec *was, struct box_spec *s, struct err *err)
{
	for (size_t i = 0; i < was->n_volumes; i++)
		if (take_volume(&was->volumes[i], s, err) < 0)
			return -1;
	take_rules(was, s);
	take_ports(was, s);
	s->generation = was->generation;
	name_trees(s, s->home_trees, s->n_home_trees);
	name_trees(s, s->workspace_trees, s->n_workspace_trees);
	return 0;
}

/* ---- both ---- */

static int plan(struct request *r, const struct box_spec *was, struct box_spec *ret)
{
	struct err err;

	r->plan.name = was->name;
	if (was->git_name) { /* who the user was to git, for the life of the sandbox */
		r->plan.git_name = was->git_name;
		r->plan.git_email = was->git_email;
	}
	if (request_plan(r, ret, &err) < 0)
		return cli_fail(&err);
	secrets_settle(ret);
	if (take_over(was, ret, &err) < 0)
		return cli_fail(&err);
	strv_copy(&ret->made_with, &r->made_with);
	ret->made_in = xstrdup(was->made_in);
	return request_check_ssh(r, ret);
}

int recompose(const struct recompose *how, const struct box_spec *was, struct box_spec *ret)
{
	struct request r = {.create_only = true, .again = was->name};
	struct strv words = {0};
	int status;

	if (!was->made_with.n || !was->made_in)
		return cli_failf("sandbox %s was made by an earlier Hutch, which did not note how",
			was->name);
	say_again(how, was, &words, &r.n_kept);
	if (chdir(was->made_in) < 0) {
		strv_done(&words);
		return cli_failf("%s, where sandbox %s was made: no such directory", was->made_in,
			was->name);
	}
	optind = 0; /* a second command line */
	status = request_parse(&r, (int)words.n, words.v);
	if (status == 0)
		status = request_load_kits(&r);
	if (status == 0)
		status = plan(&r, was, ret);
	if (status == 0)
		status = approve_kits(r.plan.kits, r.plan.n_kits, &how->approved);
	request_done(&r);
	strv_done(&words);
	return status;
}

void recompose_done(struct recompose *how)
{
	strv_done(&how->kits);
	strv_done(&how->kit_args);
	strv_done(&how->args_files);
	strv_done(&how->approved);
}

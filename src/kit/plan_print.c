/* SPDX-License-Identifier: Apache-2.0 */
/* A plan for people: one fact per line, a word in front that says what it is about. */
#include "kit/plan.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "kit/plan_parts.h"

static void line(FILE *out, const char **label, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The label is printed on its first line only. */
static void line(FILE *out, const char **label, const char *fmt, ...)
{
	va_list ap;

	fprintf(out, "%-12s", *label);
	*label = "";
	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

/* Kits are strangers' text and this goes to a terminal: printable, first line, cut. */
struct shown {
	char text[100];
};

static struct shown show(const char *s)
{
	size_t len = strcspn(s, "\n");
	bool more = (s[len] && s[len + 1]) || len > 95;
	struct shown to;
	char safe[96];

	log_safe(safe, sizeof(safe), s, len);
	snprintf(to.text, sizeof(to.text), "%s%s", safe, more ? " ..." : "");
	return to;
}

static struct shown show_argv(const struct strv *argv)
{
	_free_ char *all = xstrdup("");
	bool shell = argv->n == 3 && strcmp(argv->v[0], "sh") == 0 && strcmp(argv->v[1], "-c") == 0;

	if (shell)
		return show(argv->v[2]);
	for (size_t i = 0; i < argv->n; i++) {
		char *next = xasprintf("%s%s%s", all, i ? " " : "", argv->v[i]);

		free(all);
		all = next;
	}
	return show(all);
}

static struct shown show_bytes(uint64_t bytes)
{
	struct shown to;

	if (bytes % (1024 * 1024 * 1024) == 0)
		snprintf(to.text, sizeof(to.text), "%" PRIu64 " GiB", bytes >> 30);
	else
		snprintf(to.text, sizeof(to.text), "%" PRIu64 " MiB", bytes >> 20);
	return to;
}

/* ", kit hello", or nothing when nobody said. */
static struct shown from(const struct box_spec *s, const char *what)
{
	struct shown to = {""};
	char safe[90];

	for (size_t i = 0; i < s->n_origins; i++)
		if (strcmp(s->origins[i].what, what) == 0)
			snprintf(to.text, sizeof(to.text), ", %s",
				log_safe(safe, sizeof(safe), s->origins[i].from,
					strlen(s->origins[i].from)));
	return to;
}

/* When: nothing where that is always. */
static const char *phase(enum spec_phase p)
{
	return p == SPEC_INSTALL ? ", while it is installed"
				 : (p == SPEC_RUNTIME ? ", after the installation" : "");
}

static void print_environment(const struct box_spec *s, FILE *out)
{
	const char *label = "environment";

	for (size_t i = 0; i < s->env.n; i++) {
		_free_ char *what =
			xasprintf("env %.*s", (int)strcspn(s->env.v[i], "="), s->env.v[i]);

		line(out, &label, "%s%s", show(s->env.v[i]).text, from(s, what).text);
	}
}

/* What optional capabilities are not there; the others show themselves. */
static void print_skipped(const struct box_spec *s, FILE *out)
{
	const char *label = "skipped";

	for (size_t i = 0; i < s->n_selection; i++)
		for (size_t m = 0; m < s->selection[i].types.n && s->selection[i].rejected.n; m++)
			line(out, &label, "%s, kit %s%s", show(s->selection[i].types.v[m]).text,
				s->selection[i].kit,
				strv_has(&s->selection[i].rejected, s->selection[i].members.v[m])
					? ""
					: ", with its group");
}

static void print_volumes(const struct box_spec *s, FILE *out)
{
	const char *label = "volumes";

	for (size_t i = 0; i < s->n_volumes; i++)
		line(out, &label, "%s%s%s%s%s, kit %s", show(s->volumes[i].path).text,
			s->volumes[i].retained ? ", kept and not mounted" : "",
			s->volumes[i].tmpfs ? ", tmpfs" : "",
			!s->volumes[i].size_bytes ? ""
			: s->volumes[i].tmpfs     ? " of "
						  : ", ",
			s->volumes[i].size_bytes ? show_bytes(s->volumes[i].size_bytes).text : "",
			s->volumes[i].kit);
	label = "ports";
	for (size_t i = 0; i < s->n_ports; i++)
		line(out, &label, "%u/%s%s%s, kit %s, on 127.0.0.1", s->ports[i].container,
			s->ports[i].udp ? "udp" : "tcp", s->ports[i].name[0] ? " " : "",
			show(s->ports[i].name).text, s->ports[i].kit);
}

static void print_inject(const struct spec_inject *in, const char **label, FILE *out)
{
	const struct shown domain = show(in->domain);
	const char *to = domain.text, *without = in->insecure ? ", also without TLS" : "";

	switch (in->kind) {
	case SPEC_INJECT_QUERY:
		line(out, label, "  to %s in parameter %s%s", to, show(in->parameter).text, without);
		break;
	case SPEC_INJECT_PLACEHOLDER:
		line(out, label, "  to %s in place of %s, in headers%s%s", to,
			show(in->placeholder).text, in->in_body ? " and bodies" : "", without);
		break;
	case SPEC_INJECT_AWS:
		line(out, label, "  to %s as AWS signature%s", to, without);
		break;
	case SPEC_INJECT_REGISTRY:
		line(out, label, "  to %s as registry login%s", to, without);
		break;
	case SPEC_INJECT_CERTIFICATE:
		line(out, label, "  to %s as client certificate", to);
		break;
	case SPEC_INJECT_HEADER:
	case SPEC_INJECT_KINDS:
		line(out, label, "  to %s in %s%s", to, show(in->header).text, without);
		break;
	}
}

static void print_oauth(const struct spec_oauth *o, const char **label, FILE *out)
{
	line(out, label, "  OAuth tokens from %s%s%s", show(o->host).text, show(o->path).text,
		o->passthrough ? ", which the sandbox sees" : "");
	for (size_t i = 0; i < o->resource_hosts.n; i++)
		line(out, label, "  OAuth tokens to %s", show(o->resource_hosts.v[i]).text);
	if (o->file)
		line(out, label, "  OAuth placeholders in %s", show(o->file).text);
}

static void print_network(const struct spec_net *n, FILE *out)
{
	const char *label = "network";

	if (n->learn)
		line(out, &label, "learning: names and requests are recorded");
	if (!n->n_rules)
		line(out, &label, "nothing is allowed");
	for (size_t i = 0; i < n->n_rules; i++)
		line(out, &label, "%-5s %-32s %s%s", n->rules[i].allow ? "allow" : "deny",
			show(n->rules[i].target).text, show(n->rules[i].source).text,
			phase(n->rules[i].phase));
	label = "resolve";
	for (size_t i = 0; i < n->n_resolves; i++)
		line(out, &label, "%s -> %s", n->resolves[i].name, n->resolves[i].address);
	label = "ca";
	for (size_t i = 0; i < n->n_cas; i++)
		line(out, &label, "certificates for %s", show(n->cas[i].target).text);
	label = "credentials";
	for (size_t i = 0; i < n->n_credentials; i++) {
		const struct spec_credential *c = &n->credentials[i];

		line(out, &label, "%s%s%s%s, %s%s%s", show(c->service).text, c->env[0] ? " as " : "",
			c->env[0] ? show(c->env).text : "", c->required ? ", required" : "",
			spec_name_valid(c->kit) ? "kit " : "", c->kit, phase(c->phase));
		for (size_t k = 0; k < c->n_injects; k++)
			print_inject(&c->injects[k], &label, out);
		for (size_t k = 0; k < c->n_oauth; k++)
			print_oauth(&c->oauth[k], &label, out);
	}
}

static void print_ssh(const struct box_spec *s, FILE *out)
{
	const char *label = "ssh-agent";

	for (size_t i = 0; i < s->ssh_keys.n; i++)
		line(out, &label, "key %s", show(s->ssh_keys.v[i]).text);
	if (s->ssh_any_key)
		line(out, &label, "every key of it%s", phase(s->ssh_phase));
	for (size_t i = 0; i < s->ssh_hosts.n; i++)
		line(out, &label, "  at %s", show(s->ssh_hosts.v[i]).text);
	for (size_t i = 0; i < s->ssh_sign.n; i++)
		line(out, &label, "  for signatures of %s", show(s->ssh_sign.v[i]).text);
	if (s->ssh_any_host)
		line(out, &label, "  anywhere, and for any signature");
}

/* Which of the sandbox's variables a step sees, where it does not see all. */
static struct shown show_seen(const struct spec_step *s)
{
	_free_ char *all = xstrdup("");
	struct shown to = {""};

	if (!s->bounded)
		return to;
	for (size_t i = 0; i < s->env.n; i++) {
		char *next = xasprintf("%s%s%.*s", all, i ? " " : "",
			(int)strcspn(s->env.v[i], "="), s->env.v[i]);

		free(all);
		all = next;
	}
	snprintf(to.text, sizeof(to.text), ", sees %.90s", s->env.n ? show(all).text : "no variables");
	return to;
}

/* Steps of Hutch's own are said in words. */
static struct shown show_step(const struct spec_step *s)
{
	bool own = s->argv.n > 4 && strcmp(s->argv.v[3], "hutch") == 0;
	struct shown to;

	if (!own)
		return show_argv(&s->argv);
	snprintf(to.text, sizeof(to.text), "%.30s %.60s", show(s->description).text,
		show(s->argv.v[4]).text);
	return to;
}

static void print_steps(const char *label, const struct spec_step *v, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++)
		line(out, &label, "kit %s, user %s%s%s: %s", v[i].kit, show(v[i].user).text,
			v[i].background ? ", background" : "", show_seen(&v[i]).text,
			show_step(&v[i]).text);
}

/* How sessions of the agent are begun. */
static void print_sessions(const struct box_spec *s, FILE *out)
{
	const char *label = "sessions";

	for (size_t i = 0; i < s->n_sessions; i++)
		line(out, &label, "%s%s: %s", show(s->sessions[i].verb).text,
			s->sessions[i].terminal ? " (on a terminal)" : "",
			show_argv(&s->sessions[i].argv).text);
}

static void print_trees(const char **label, const struct spec_tree *v, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++)
		line(out, label, "%s/ from kit %s", show(v[i].dest).text, v[i].kit);
}

static void print_launch(const struct box_spec *s, FILE *out)
{
	const char *label = "command";
	struct strv all = {0}, inter = {0};
	const char *what =
		s->command_default.n || s->command_interactive.n ? "command" : "entrypoint";

	strv_copy(&all, &s->entrypoint);
	strv_copy(&inter, &s->entrypoint);
	strv_copy(&all, &s->command_default);
	strv_copy(&inter, &s->command_interactive);
	strv_copy(&all, &s->args);
	strv_copy(&inter, &s->args);
	line(out, &label, "%s%s", show_argv(&all).text, from(s, what).text);
	if (strcmp(show_argv(&all).text, show_argv(&inter).text) != 0)
		line(out, &label, "%s (on a terminal)", show_argv(&inter).text);
	strv_done(&all);
	strv_done(&inter);
}

static void print_kit(FILE *out, const char **label, const struct box_spec *s, const char *name)
{
	_free_ char *what = xasprintf("kit %s", name);
	const char *pin = NULL;

	for (size_t i = 0; i < s->n_origins; i++)
		if (strcmp(s->origins[i].what, what) == 0)
			pin = s->origins[i].from;
	line(out, label, "%s%s%s", name, pin ? " from " : "", pin ? pin : "");
}

static void print_mount(
	const struct box_spec *s, const struct spec_mount *m, const char **label, FILE *out)
{
	if (m->kit)
		line(out, label, "%s, shared by all sandboxes with kit %s: %s",
			show(m->guest_path).text, m->kit, show(m->host_path).text);
	else
		line(out, label, "%s%s%s", show(m->host_path).text,
			m->read_only ? ", read-only" : "",
			strcmp(m->guest_path, s->workdir) == 0 ? ", starts here" : "");
}

void plan_print(const struct box_spec *s, FILE *out)
{
	const char *label = "sandbox";

	line(out, &label, "%s%s%s", s->name, s->remove_on_exit ? ", removed when it ends" : "",
		s->strict ? ", refuses to run with a layer of isolation missing" : "");
	label = "kits";
	for (size_t i = 0; i < s->kits.n; i++)
		print_kit(out, &label, s, s->kits.v[i]);
	label = "machine";
	line(out, &label, "%u cpu%s%s", s->cpus, s->cpus == 1 ? "" : "s", from(s, "cpus").text);
	line(out, &label, "%s memory%s", show_bytes(s->memory_bytes).text, from(s, "memory").text);
	line(out, &label, "%s disk, engine %s", show_bytes(s->disk_bytes).text,
		spec_engine_name(s->engine));
	label = "image";
	line(out, &label, "%s%s", s->image, from(s, "image").text);
	for (size_t i = 0; i < s->layers.n; i++)
		line(out, &label, "with %s", s->layers.v[i]);
	print_launch(s, out);
	label = "directories";
	for (size_t i = 0; i < s->n_mounts; i++)
		print_mount(s, &s->mounts[i], &label, out);
	if (!plan_in_mount(s, s->workdir))
		line(out, &label, "%s, the sandbox's own, starts here", show(s->workdir).text);
	print_network(&s->net, out);
	print_ssh(s, out);
	print_environment(s, out);
	print_volumes(s, out);
	print_skipped(s, out);
	print_steps("prepare", s->prepare, s->n_prepare, out);
	print_steps("install", s->install, s->n_install, out);
	print_steps("start-up", s->startup, s->n_startup, out);
	label = "files";
	print_trees(&label, s->home_trees, s->n_home_trees, out);
	for (size_t i = 0; i < s->n_files; i++)
		line(out, &label, "%s, mode %04o, kit %s%s", show(s->files[i].path).text,
			s->files[i].mode, s->files[i].kit,
			s->files[i].each_start ? (s->files[i].only_if_missing ? ", where it is missing"
									      : ", at each start")
					       : "");
	print_trees(&label, s->workspace_trees, s->n_workspace_trees, out);
	print_sessions(s, out);
}

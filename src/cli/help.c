/* SPDX-License-Identifier: Apache-2.0 */
/* How the commands are used. docs/hutch.1 says more about each option. */
#include <string.h>

#include "base/mem.h"
#include "cli/help.h"

struct help {
	const char *name; /* "policy allow": a subcommand */
	const char *args; /* "": none; NULL: it has subcommands */
	const char *what; /* one line */
	const char *options; /* lines, or NULL */
};

#define SANDBOX "  --sandbox NAME           for this sandbox instead of all\n"
#define JSON    "  --json                   print JSON\n"
#define KIT_ARGS \
	"  --kit-arg [KIT.]N=VALUE  value of a kit's argument\n" \
	"  --kit-args-file FILE     the same from a YAML file\n"
#define APPROVE "  --approve-kit DIGEST     approve what the kit with this digest asks for\n"
#define RULE \
	SANDBOX \
	"  --method METHOD          only requests with this method\n" \
	"  --path PATTERN           only requests for these paths\n" \
	"  --protocol tcp|udp\n"
#define MAKE \
	"  --name NAME              name of the sandbox; else made of agent and directory\n" \
	"  --kit KIT                add a mixin: a name, directory, ZIP file or reference\n" \
	KIT_ARGS APPROVE \
	"  --no-workspace           share no directory\n" \
	"  --allow RULE             allow a network destination, such as api.example.com\n" \
	"  --learn, --no-learn      record what is refused for hutch policy suggest\n" \
	"  --resolve NAME=ADDR:PORT connect there when the sandbox connects to NAME\n" \
	"  --credential SERVICE     grant a built-in service (hutch secret services)\n" \
	"  --ssh-agent              grant the keys of your ssh-agent that the kits ask for\n" \
	"  -e, --env NAME[=VALUE]   set a variable; without a value, that of the host\n" \
	"  --cpus N                 virtual processors, 2 by default\n" \
	"  --memory SIZE            like 512m or 8g\n" \
	"  --disk SIZE              at most so much, 16g by default\n" \
	"  --engine ENGINE          auto, kvm or qemu (software emulation)\n" \
	"  --no-cache               run the kits' install steps anew, keep no disk of them\n" \
	"  --strict                 refuse to start without every layer of isolation\n" \
	"  --dry-run [--json]       print the plan and start nothing\n"

static const struct help table[] = {
	{"run", "[OPTION...] AGENT|KITDIR [PATH[:ro]]... [-- ARG...]",
		"run an agent in its sandbox, creating it when missing",
		MAKE
		"  --prompt TEXT            have the agent do what the text says\n"
		"  --resume ID, --continue  go on with a session of the agent, or the last one\n"
		"  --rm                     delete the sandbox when the command ends\n"
		"  -d, --detach             do not attach; output in hutch logs\n"},
	{"create", "[OPTION...] AGENT|KITDIR [PATH[:ro]]...", "create a sandbox without attaching",
		MAKE},
	{"exec", "[-it] [-u USER] [-w DIR] [-e NAME[=VALUE]] NAME [--] CMD...",
		"run a command in a sandbox, starting it when stopped",
		"  -i, --interactive        pass standard input on\n"
		"  -t, --tty                give the command a terminal\n"
		"  -u, --user USER          name or number of a user in the sandbox\n"
		"  -w, --workdir DIR        directory to start in\n"
		"  -e, --env NAME[=VALUE]   set a variable; without a value, that of the host\n"},
	{"ls", "[--json]", "list sandboxes", JSON},
	{"inspect", "[--json] NAME", "what a sandbox is made of, and what its kits were given",
		JSON},
	{"start", "NAME...", "start sandboxes that are stopped", NULL},
	{"stop", "NAME...", "power sandboxes off, keeping their disks", NULL},
	{"recreate", "[OPTION...] NAME [AGENT|KITDIR]",
		"make a sandbox again, keeping its volumes and its workspace",
		"  -f, --force              also a running one, which is stopped first\n"
		"  --kit KIT                with AGENT: these kits instead of those it "
		"has\n" KIT_ARGS APPROVE},
	{"rm", "[-f] NAME...", "delete sandboxes",
		"  -f, --force              also running ones; names of none are no error\n"},
	{"logs", "NAME", "console, set-up and supervisor logs of a sandbox", NULL},
	{"ports",
		"[--publish [HOST:]PORT[/udp]]... [--unpublish [HOST:]PORT[/udp]]... [--json] NAME",
		"ports of a sandbox on this machine",
		"  --publish [HOST:]PORT    lead port HOST of 127.0.0.1 (or any) to PORT inside\n"
		"  --unpublish [HOST:]PORT  end that\n" JSON},
	{"policy", NULL, "network rules, and what they allowed and refused", NULL},
	{"policy allow", "[OPTION...] RULE...", "allow destinations", RULE},
	{"policy deny", "[OPTION...] RULE...", "refuse destinations, whatever else allows them",
		RULE},
	{"policy rm", "[OPTION...] RULE...", "remove rules that were added so", RULE},
	{"policy ls", "[--sandbox NAME] [--json]", "list rules", SANDBOX JSON},
	{"policy check", "[OPTION...] DESTINATION",
		"say whether a destination is allowed, and by which rule", RULE JSON},
	{"policy init", "locked|balanced|open", "choose the preset for all sandboxes", NULL},
	{"policy pending", "[--json]", "list what sandboxes ask for", JSON},
	{"policy approve", "[--once|--always] NAME/NUMBER...", "allow what was asked for",
		"  --once                   until the sandbox stops (the default)\n"
		"  --always                 as a rule of this sandbox\n"},
	{"policy dismiss", "NAME/NUMBER...", "do not ask this again until the sandbox stops", NULL},
	{"policy log", "[--follow] [--denied] [--json] [NAME] | --verify [NAME]",
		"print what was allowed and refused",
		"  -f, --follow             go on with what is written from now on\n"
		"  --denied                 only what was refused\n" JSON
		"  --verify                 only check that no line is missing or changed\n"},
	{"policy suggest", "NAME", "print rules that would have allowed what was refused", NULL},
	{"secret", NULL, "credentials that never enter a sandbox", NULL},
	{"secret set", "[OPTION...] SERVICE", "keep a credential, read from standard input",
		"  --from env:NAME|file:PATH|cmd:COMMAND  keep where the value is instead\n"
		"  --ttl TIME               how long what a command printed may be used: 30s, "
		"5m\n" SANDBOX "  --no-keyring             use a file\n"},
	{"secret import", "[--sandbox NAME] [--no-keyring] [FILE|--from-env]",
		"keep what built-in services have in a file of NAME=VALUE lines",
		"  --from-env               read the environment instead\n" SANDBOX
		"  --no-keyring             use files\n"},
	{"secret ls", "[--sandbox NAME] [--json]", "list what is kept", SANDBOX JSON},
	{"secret rm", "[--sandbox NAME] SERVICE...", "remove credentials", SANDBOX},
	{"secret services", "", "list the built-in services", NULL},
	{"kit", NULL, "start, check, look into and share kits", NULL},
	{"kit init", "DIR", "start a kit", NULL},
	{"kit validate", "[OPTION...] KIT", "check a kit", KIT_ARGS APPROVE JSON},
	{"kit inspect", "[OPTION...] KIT...", "print what kits amount to together",
		"  --kit KIT                one more\n" KIT_ARGS APPROVE JSON},
	{"kit test", "[OPTION...] KIT", "install a kit in a fresh sandbox and run its own tests",
		"  --kit KIT                add a mixin\n" KIT_ARGS APPROVE
		"  --keep                   do not remove the sandbox\n"
		"  --no-cache               run install steps anew\n" JSON},
	{"kit schema", "1|2|3|testdata", "print a JSON Schema, for editors", NULL},
	{"kit cache", "ls [--json] | rm [KEY...]", "disks that are kept after install steps", JSON},
	{"kit mounts", "ls [--json] [KIT] | rm ID...",
		"directories that sandboxes with one kit share", JSON},
	{"kit pack", "[-o FILE] KIT", "write a kit as a ZIP file",
		"  -o, --output FILE        else NAME.zip\n"},
	{"kit push", "KIT oci://HOST/NAME[:TAG]", "put a kit into a registry", NULL},
	{"kit pull", "[-o DIR|FILE.zip] REFERENCE", "fetch a kit",
		"  -o, --output DIR         else its name\n"},
	{"kit sign", "--key FILE [--plain] DIR", "sign a kit",
		"  --key FILE               private key in PEM\n"
		"  --plain                  a bare signature, no Sigstore bundle\n"},
	{"kit verify", "[--key FILE]... [--list] KIT", "check who signed a kit",
		"  --key FILE               public key in PEM; else kit.trustedKeys of the "
		"settings\n"
		"  --list                   print what is signed\n"},
	{"image", NULL, "kernel pack and root images", NULL},
	{"image ls", "[--json]", "list kernel packs and images", JSON},
	{"image build", "[--force]", "make what is missing of kernel pack and base image",
		"  --force                  make all of it anew\n"},
	{"image pull", "REFERENCE...", "fetch images from registries", NULL},
	{"image rm", "REFERENCE...", "forget images that were pulled", NULL},
	{"image prune", "[--dry-run] [--json]", "remove images and kernel packs that nothing needs",
		"  --dry-run                only say what would go\n" JSON},
	{"doctor", "[--json]", "check what this machine has and lacks", JSON},
	{"version", "", "print the version", NULL},
};

/* What follows "NAME " in the row's name, or NULL when it is no subcommand of @name. */
static const char *verb_of(const struct help *h, const char *name)
{
	size_t len = strlen(name);

	return strncmp(h->name, name, len) == 0 && h->name[len] == ' ' ? h->name + len + 1 : NULL;
}

static const struct help *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

void help_print_all(FILE *to)
{
	fprintf(to, "Hutch %s: microVM sandboxes for coding agents\n\nusage: hutch COMMAND ...\n\n",
		HUTCH_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (!strchr(table[i].name, ' '))
			fprintf(to, "  %-8s %s\n", table[i].name, table[i].what);
	fprintf(to, "\n  hutch COMMAND --help says how each is used. Start with: hutch run shell .\n");
}

bool help_print(FILE *to, const char *name)
{
	const struct help *h = find(name);

	if (!h)
		return false;
	fprintf(to, "hutch %s: %s\n", h->name, h->what);
	help_print_usage(to, name);
	if (h->options)
		fprintf(to, "\n%s", h->options);
	if (h->args)
		return true;
	fprintf(to, "\n");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (verb_of(&table[i], name))
			fprintf(to, "  %-9s %s\n", verb_of(&table[i], name), table[i].what);
	fprintf(to, "\n  hutch %s COMMAND --help says how each is used.\n", name);
	return true;
}

void help_print_usage(FILE *to, const char *name)
{
	const struct help *h = find(name);
	const char *before = "usage:";

	if (h && h->args)
		fprintf(to, "usage: hutch %s%s%s\n", name, *h->args ? " " : "", h->args);
	for (size_t i = 0; h && !h->args && i < ARRAY_SIZE(table); i++) {
		if (!verb_of(&table[i], name))
			continue;
		fprintf(to, "%6s hutch %s%s%s\n", before, table[i].name, *table[i].args ? " " : "",
			table[i].args);
		before = "";
	}
}

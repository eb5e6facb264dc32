/* SPDX-License-Identifier: Apache-2.0 */
/* hutch doctor: what this machine has, what it lacks, and what to do about it. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <jansson.h>

#include "base/child.h"
#include "base/fs.h"
#include "base/jail.h"
#include "base/paths.h"
#include "cli/cli.h"
#include "image/virt.h"

enum level { GOOD, NOTE, BAD };
static const char *const level_names[] = {"ok", "note", "fail"};

struct finding {
	const char *id; /* stable, for scripts */
	enum level level;
	char text[640], remedy[320];
};

static void say(struct finding *f, enum level level, const char *text, const char *remedy)
{
	f->level = level;
	snprintf(f->text, sizeof(f->text), "%s", text);
	snprintf(f->remedy, sizeof(f->remedy), "%s", remedy ? remedy : "");
}

static void check_virtualization(struct finding *f)
{
	struct kernel_pack p = {0};
	bool has_pack = image_kernel(&p, NULL) == 0;
	struct err why = {0};
	_free_ char *text = NULL;

	if (virt_obstacle(has_pack ? &p : NULL, &why) == VIRT_NONE) {
		say(f, GOOD, "hardware virtualization is usable: sandboxes run on it (engine kvm)", NULL);
	} else {
		text = xasprintf("%s, so sandboxes run under software emulation (engine qemu), 10 to 30 "
				 "times slower",
			why.msg);
		say(f, NOTE, text, why.hint);
	}
	kernel_pack_done(&p);
}

static void check_qemu(struct finding *f)
{
	char **argv = ARGV("qemu-system-x86_64", "--version");
	_free_ char *out = NULL;
	struct err err;
	char *nl;

	if (child_run(&(struct child_spec){.path = argv[0], .argv = argv, .in = CHILD_NULL}, &out,
		    4096, &err) != 0) {
		say(f, virt_obstacle(NULL, NULL) == VIRT_NONE ? NOTE : BAD,
			"qemu-system-x86_64 is not installed (engine qemu)", "apt install qemu-system-x86");
		return;
	}
	nl = strchr(out, '\n');
	if (nl)
		*nl = '\0';
	say(f, GOOD, out, NULL);
}

static void check_kernel(struct finding *f)
{
	struct kernel_pack p = {0};
	struct err err;

	if (image_kernel(&p, &err) < 0)
		say(f, BAD, err.msg, err.hint);
	else
		say(f, GOOD, p.id, NULL);
	kernel_pack_done(&p);
}

static void check_root(struct finding *f)
{
	_free_ char *path = NULL, *ref = NULL;
	struct err err;

	if (image_find("base", NULL, &path, &ref, &err) < 0)
		say(f, BAD, err.msg, err.hint);
	else if (!image_is_current())
		say(f, NOTE, "kernel pack or base image were made by an earlier Hutch", "hutch image build");
	else
		say(f, GOOD, ref, NULL);
}

static void check_space(struct finding *f)
{
	_free_ char *data = path_data("", NULL);
	struct statvfs st;
	char text[400];
	double gib;

	if (!data || statvfs(data, &st) < 0) {
		say(f, BAD, "the data directory cannot be made", "set XDG_DATA_HOME to a writable place");
		return;
	}
	gib = (double)st.f_bavail * (double)st.f_frsize / (1u << 30);
	snprintf(text, sizeof(text), "%.1f GiB free in %s", gib, data);
	say(f, gib < 3 ? BAD : gib < 10 ? NOTE : GOOD, text,
		gib < 10 ? "images need about 2 GiB, each sandbox what it writes" : NULL);
}

static void check_isolation(struct finding *f)
{
	unsigned refused = jail_refused();
	char layers[160], text[400];

	if (!refused) {
		snprintf(text, sizeof(text),
			"every layer is available: namespaces, seccomp, Landlock version %d",
			landlock_version());
		say(f, GOOD, text, NULL);
		return;
	}
	snprintf(text, sizeof(text),
		"this host refuses layers of isolation (%s): sandboxes run with fewer, and --strict "
		"refuses to run them",
		jail_layers_text(refused, layers, sizeof(layers)));
	if (refused & JAIL_SECCOMP)
		say(f, NOTE, text, "needs a kernel with CONFIG_SECCOMP_FILTER");
	else if (refused & ~JAIL_LANDLOCK)
		say(f, NOTE, text,
			"allow user namespaces: sysctl user.max_user_namespaces=10000, "
			"kernel.unprivileged_userns_clone=1 (Debian), "
			"kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); for a container, allow "
			"it clone, unshare and mount");
	else
		say(f, NOTE, text,
			"needs Linux 5.19 with CONFIG_SECURITY_LANDLOCK, and landlock in the kernel "
			"parameter lsm=");
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct finding f[] = {{.id = "virtualization"}, {.id = "qemu"}, {.id = "kernel-pack"},
		{.id = "base-image"}, {.id = "disk-space"}, {.id = "isolation"}};
	void (*const checks[])(struct finding *) = {check_virtualization, check_qemu, check_kernel,
		check_root, check_space, check_isolation};
	bool json = false, bad = false;
	json_t *list = json_array();
	int c;

	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c != 'j')
			return CLI_FAILED;
		json = true;
	}
	if (optind != argc)
		return cli_usage("doctor");
	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		checks[i](&f[i]);
		bad |= f[i].level == BAD;
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:s, s:s}", "id", f[i].id, "status",
				level_names[f[i].level], "text", f[i].text, "remedy", f[i].remedy));
		if (json)
			continue;
		printf("%-4s  %-14s  %s\n", level_names[f[i].level], f[i].id, f[i].text);
		if (f[i].remedy[0])
			printf("%22s%s\n", "", f[i].remedy);
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(list);
	return bad ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes of kits.
 *
 * A sandbox has one disk, which lasts until the sandbox is removed. A block volume is a directory
 * there, made before the install steps; with a size it is a file system of that size in a sparse
 * file there. That and a tmpfs are mounted at every start before anything else runs. All are steps
 * that the guest's agent runs like those of kits. */
#include "kit/plan_parts.h"

#include <string.h>

#define AGENT_USER "1000"

static void add_shell_step(struct spec_step **list, size_t *n, const struct kit_volume *v,
	const char *kit, const char *user, const char *script, const char *arg)
{
	struct spec_step *to;

	*list = xrealloc(*list, *n + 1, sizeof(**list));
	to = &(*list)[(*n)++];
	*to = (struct spec_step){.user = xstrdup(user),
		.description = xasprintf("volume %s", v->path),
		.kit = xstrdup(kit)};
	strv_add(&to->argv, "sh");
	strv_add(&to->argv, "-c");
	strv_add(&to->argv, script);
	strv_add(&to->argv, "volume");
	strv_add(&to->argv, v->path);
	strv_add(&to->argv, arg);
}

/* Directories on the way to the agent's volume belong to the agent, too. */
static void add_way(struct box_spec *s, const struct kit_volume *v, const char *kit)
{
	if (plan_is_agents(s, v->path))
		add_shell_step(
			&s->prepare, &s->n_prepare, v, kit, AGENT_USER, "mkdir -p \"$1\"", "");
}

/* $2: its number, size, mode and owner. The file appears when the file system in it is whole. */
static const char sized[] =
	"mountpoint -q \"$1\" && exit\n"
	"set -e -- \"$1\" $2\n"
	"f=/var/lib/hutch/volumes/$2.ext4\n"
	"[ -e /dev/loop-control ] || {\n"
	"echo 'the kernel has no loop devices; hutch image build gets them' >&2; exit 1; }\n"
	"if [ ! -e $f ]; then\n"
	"umask 077; mkdir -p ${f%/*}; rm -f $f.new; truncate -s $3 $f.new\n"
	"mkfs.ext4 -q -F -m 0 -E nodiscard,root_owner=$5:$5 $f.new\n"
	"new=1; sync $f.new; mv $f.new $f; umask 022\n"
	"fi\n"
	"mkdir -p \"$1\"; mount -o loop,noatime,discard $f \"$1\"\n"
	"[ -z \"$new\" ] || { rmdir \"$1/lost+found\"; chmod $4 \"$1\"; }\n";

static void add_sized(struct box_spec *s, const struct kit_volume *v, const char *kit)
{
	_free_ char *what = xasprintf("%zu %llu %04o %s", s->n_volumes,
		(unsigned long long)v->size_bytes, v->mode ? v->mode : 0755,
		plan_is_agents(s, v->path) ? AGENT_USER : "0");

	add_way(s, v, kit);
	add_shell_step(&s->prepare, &s->n_prepare, v, kit, "0", sized, what);
}

static void add_block(struct box_spec *s, const struct kit_volume *v, const char *kit)
{
	bool agents = plan_is_agents(s, v->path);
	char mode[16];

	if (v->size_bytes) {
		add_sized(s, v, kit);
		return;
	}
	snprintf(mode, sizeof(mode), "%04o", v->mode ? v->mode : 0755);
	add_shell_step(&s->install, &s->n_install, v, kit, agents ? AGENT_USER : "0",
		"mkdir -p \"$1\" && chmod \"$2\" \"$1\"", mode);
}

static void add_tmpfs(struct box_spec *s, const struct kit_volume *v, const char *kit)
{
	bool agents = plan_is_agents(s, v->path);
	_free_ char *size = v->size_bytes
				    ? xasprintf(",size=%llu", (unsigned long long)v->size_bytes)
				    : xstrdup("");
	_free_ char *options = xasprintf("mode=%04o%s%s", v->mode ? v->mode : 0755, size,
		agents ? ",uid=" AGENT_USER ",gid=" AGENT_USER : "");

	add_way(s, v, kit);
	add_shell_step(&s->prepare, &s->n_prepare, v, kit, "0",
		"mountpoint -q \"$1\" || { mkdir -p \"$1\" && "
		"mount -t tmpfs -o \"nosuid,nodev,$2\" tmpfs \"$1\"; }",
		options);
}

/* The last kit that names a path decides about it. */
static bool named_later(const struct kit *const *order, size_t n, size_t at, const char *path)
{
	for (size_t i = at + 1; i < n; i++)
		for (size_t m = 0; m < order[i]->n_volumes; m++)
			if (strcmp(order[i]->volumes[m].path, path) == 0)
				return true;
	return false;
}

void plan_add_volumes(struct box_spec *s, const struct kit *const *order, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t m = 0; m < order[i]->n_volumes; m++) {
			const struct kit_volume *v = &order[i]->volumes[m];

			if (named_later(order, n, i, v->path))
				continue;
			s->volumes = xrealloc(s->volumes, s->n_volumes + 1, sizeof(*s->volumes));
			s->volumes[s->n_volumes++] = (struct spec_volume){.path = xstrdup(v->path),
				.kit = xstrdup(order[i]->name),
				.tmpfs = v->tmpfs,
				.size_bytes = v->size_bytes};
			(v->tmpfs ? add_tmpfs : add_block)(s, v, order[i]->name);
		}
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes of kits.
 *
 * A sandbox has one disk, which lasts until the sandbox is removed. A block volume is a directory of
 * the store there (AGENT_STORE), which is not part of the root: named by a digest of the volume's
 * path, so that it is found again whichever kit asks for it, after "hutch recreate" as well. In it is
 * a directory, or with a size a file system of that size in a sparse file. That and a tmpfs are mounted
 * at every start before anything else runs. All are steps that the guest's agent runs like those of
 * kits. */
#include "kit/plan_parts.h"

#include <string.h>

#include "base/sha256.h"
#include "wire/agent.h"

#define AGENT_USER "1000"
#define SIZE_MIN   ((uint64_t)1 << 20) /* for a file system */

static void add_step(struct box_spec *s, const struct kit_volume *v, const char *kit, const char *user,
	const char *script, const char *arg)
{
	struct spec_step *to;

	s->prepare = xrealloc(s->prepare, s->n_prepare + 1, sizeof(*s->prepare));
	to = &s->prepare[s->n_prepare++];
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
		add_step(s, v, kit, AGENT_USER, "mkdir -p \"$1\"", "");
}

/* $2: its name in the store, mode, owner and size. It has that name when all of it is there. */
static const char block[] =
	"set -e -- \"$1\" $2\n"
	"d=" AGENT_STORE "/$2\n"
	"if [ ! -e $d ]; then\n"
	"umask 077; rm -rf $d.new; mkdir $d.new $d.new/data; printf %s \"$1\" >$d.new/path\n"
	"chown $4:$4 $d.new/data; chmod $3 $d.new/data\n"
	"[ $5 = 0 ] || if command -v mkfs.ext4 >/dev/null; then\n"
	"[ -e /dev/loop-control ] || {\n"
	"echo 'the kernel has no loop devices; hutch image build gets them' >&2; exit 1; }\n"
	"truncate -s $5 $d.new/ext4\n"
	"mkfs.ext4 -q -F -m 0 -E nodiscard,root_owner=$4:$4 $d.new/ext4\n"
	"else echo \"volume $1: its size is no limit, the image has no mkfs.ext4\" >&2; fi\n"
	"new=1; sync; mv $d.new $d; umask 022\n"
	"fi\n"
	"mkdir -p \"$1\"\n"
	"[ -e $d/ext4 ] || { mount -o bind $d/data \"$1\"; exit; }\n"
	"mount -o loop,noatime,discard $d/ext4 \"$1\"\n"
	"[ -z \"$new\" ] || { rmdir \"$1/lost+found\"; chmod $3 \"$1\"; }\n";

/* A volume of schemaVersion "3" is the agent's wherever it lies. */
static const char *owner(const struct box_spec *s, const struct kit_volume *v, const struct kit *k)
{
	return k->schema == 3 || plan_is_agents(s, v->path) ? AGENT_USER : "0";
}

static unsigned mode_of(const struct kit_volume *v)
{
	return v->mode || v->zero_mode ? v->mode : 0755;
}

static void add_block(struct box_spec *s, const struct kit_volume *v, const struct kit *k)
{
	_free_ char *what = NULL;
	char name[SHA256_HEX];
	struct sha256 h;

	sha256_init(&h);
	sha256_add(&h, v->path, strlen(v->path));
	sha256_hex(&h, name);
	what = xasprintf("%.32s %04o %s %llu", name, mode_of(v), owner(s, v, k),
		(unsigned long long)(v->size_bytes || v->zero_size ? MAX(v->size_bytes, SIZE_MIN)
								   : 0));
	add_way(s, v, k->name);
	add_step(s, v, k->name, "0", block, what);
}

static void add_tmpfs(struct box_spec *s, const struct kit_volume *v, const struct kit *k)
{
	const char *uid = owner(s, v, k);
	_free_ char *size = v->size_bytes
				    ? xasprintf(",size=%llu", (unsigned long long)v->size_bytes)
				    : xstrdup("");
	_free_ char *options = xasprintf("mode=%04o%s,uid=%s,gid=%s", mode_of(v), size, uid, uid);

	add_way(s, v, k->name);
	add_step(s, v, k->name, "0",
		"mkdir -p \"$1\" && mount -t tmpfs -o \"nosuid,nodev,$2\" tmpfs \"$1\"", options);
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
				.size_bytes = v->size_bytes,
				.mode = v->mode,
				.zero_size = v->zero_size,
				.zero_mode = v->zero_mode};
			(v->tmpfs ? add_tmpfs : add_block)(s, v, order[i]);
		}
	}
}

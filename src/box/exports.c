/* SPDX-License-Identifier: Apache-2.0 */
/* The directories that hutch-vmm serves to the guest: the plan's, and the kernel's modules behind them.
 * An export's name is its number; guest.c tells the guest where each is to be mounted. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "box/box.h"
#include "image/image.h"
#include "wire/link.h"

void exports_add_modules(struct box *b, const struct kernel_pack *pack)
{
	if (!pack->modules)
		return;
	b->modules.host_path = xstrdup(pack->modules);
	b->modules.guest_path = xasprintf("/usr/lib/modules/%s", pack->release);
	b->modules.read_only = true;
}

/* A directory that sandboxes share is there from the first of them on, until the user removes it. */
static int make_shared(const struct spec_mount *m, struct err *err)
{
	_free_ char *parent = path_dir(m->host_path);

	if (!m->kit)
		return 0;
	if (fs_mkdirs(parent, 0700, err) < 0)
		return -1;
	if (mkdir(m->host_path, 0700) == 0)
		return chmod(m->host_path, m->mode & 01777) < 0 ? err_errno(err, "%s", m->host_path) : 0;
	return errno == EEXIST ? 0 : err_errno(err, "%s", m->host_path);
}

static int send_export(struct box *b, const struct spec_mount *m, size_t i, struct err *err)
{
	static struct link_packet p; /* large, off the stack */
	_close_ int dir = -1;
	int len;

	if (make_shared(m, err) < 0)
		return -1;
	dir = open(m->host_path, O_PATH | O_DIRECTORY | O_CLOEXEC | (m->kit ? O_NOFOLLOW : 0));
	if (dir < 0)
		return err_errno(err, "%s", m->host_path);
	len = snprintf((char *)p.data, sizeof(p.data), "%zu", i);
	p.m = (struct link_msg){.type = LINK_EXPORT, .arg = m->read_only, .len = (uint32_t)len};
	if (fd_send(b->vmm_link, &p, sizeof(p.m) + p.m.len, &dir, 1) < 0)
		return err_errno(err, "share %s", m->host_path);
	return 0;
}

int exports_send(struct box *b, struct err *err)
{
	struct link_msg seal = {.type = LINK_SEAL};

	for (size_t i = 0; i < b->spec.n_mounts; i++)
		if (send_export(b, &b->spec.mounts[i], i, err) < 0)
			return -1;
	if (b->modules.host_path && send_export(b, &b->modules, b->spec.n_mounts, err) < 0)
		return -1;
	if (fd_send(b->vmm_link, &seal, sizeof(seal), NULL, 0) < 0)
		return err_errno(err, "share");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Writable disks: a formatted sparse template per size, copied hole for hole. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "image/internal.h"

int disk_template(const char *images, uint64_t bytes, char **ret_path, struct err *err)
{
	_free_ char *path = xasprintf("%s/disk-%llu.ext4", images, (unsigned long long)bytes);
	_free_ char *tmp = xasprintf("%s.%d.tmp", path, (int)getpid());
	/* An ordinary user's PATH has no sbin. */
	const char *mkfs = fs_exists("/usr/sbin/mkfs.ext4") ? "/usr/sbin/mkfs.ext4" : "mkfs.ext4";
	char **argv = ARGV(mkfs, "-q", "-F", "-m", "0", "-b", "4096", "-J", "size=16", "-E",
		"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", tmp);
	_close_ int fd = -1;
	int result;

	if (!fs_exists(path)) {
		fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
			return err_errno(err, "%s", tmp);
		result = job_run(&(struct job){.what = "disk template",
					 .argv = argv,
					 .in = CHILD_NULL,
					 .out = CHILD_NULL},
			err);
		if (result == 0)
			result = file_publish(tmp, path, err);
		unlink(tmp);
		if (result < 0)
			return -1;
	}
	*ret_path = steal_ptr(&path);
	return 0;
}

int image_disk_create(const char *path, uint64_t bytes, struct err *err)
{
	_free_ char *images = image_dir("images", err), *template = NULL, *tmp = NULL;
	_close_ int from = -1, to = -1;
	int result = 0;

	if (!images || disk_template(images, bytes, &template, err) < 0)
		return -1;
	tmp = xasprintf("%s.tmp", path);
	from = open(template, O_RDONLY | O_CLOEXEC);
	to = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (from < 0 || to < 0)
		return err_errno(err, "%s", path);
	if (ioctl(to, FICLONE, from) < 0)
		result = fs_copy_sparse(from, to, err);
	if (result == 0 && rename(tmp, path) < 0)
		result = err_errno(err, "%s", path);
	if (result < 0)
		unlink(tmp);
	return result;
}

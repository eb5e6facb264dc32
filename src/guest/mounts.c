/* SPDX-License-Identifier: Apache-2.0 */
/* The file systems of the guest.
 *
 * The kernel starts us in the initramfs. There the read-only image (first disk), the writable ext4
 * (second disk) and the overlay of both are mounted; the overlay then becomes "/". The initramfs
 * and the bare disk stay mounted underneath, out of reach by path: we keep directory descriptors of
 * them, to free the former and to remount the latter read-only at the end.
 *
 *     /hutch/lower   image          /hutch/disk    ext4: layers (layer.c), store
 *     /hutch/new     overlay, becomes /
 *
 * /var/lib/docker sits on the ext4 itself because an overlay cannot be the upper layer of another. So
 * does the store of volumes, which is to outlive the layer.
 */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define LOWER "/hutch/lower"
#define DISK  "/hutch/disk"
#define NEW   "/hutch/new"

#define DEVICE_WAIT_MS 10000

/* Magic numbers: squashfs at 0, erofs at 1024, ext4 at 1024 + 56. */
static const char *fs_type(const char *device)
{
	_close_ int fd = open(device, O_RDONLY | O_CLOEXEC);
	uint8_t head[2048];

	if (fd < 0 || fd_read_all(fd, head, sizeof(head)) < 0)
		return NULL;
	if (memcmp(head, "hsqs", 4) == 0)
		return "squashfs";
	if (memcmp(head + 1024, "\xe2\xe1\xf5\xe0", 4) == 0)
		return "erofs";
	if (memcmp(head + 1024 + 56, "\x53\xef", 2) == 0)
		return "ext4";
	return NULL;
}

/* Wait until the kernel has made the device node. Normally it is there when the driver's module is
 * loaded; a uevent tells when probing goes on in the background. */
static int wait_device(const char *path, struct err *err)
{
	struct sockaddr_nl nl = {.nl_family = AF_NETLINK, .nl_groups = 1};
	uint64_t end = uptime_us() + DEVICE_WAIT_MS * 1000ull;
	_close_ int s = -1;
	char event[4096];

	if (access(path, F_OK) == 0)
		return 0;
	s = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (s < 0 || bind(s, (struct sockaddr *)&nl, sizeof(nl)) < 0)
		return err_errno(err, "device events");
	while (access(path, F_OK) < 0) {
		struct pollfd p = {.fd = s, .events = POLLIN};
		uint64_t now = uptime_us();

		if (now >= end)
			return err_set(err, ERR_ENV, "%s: no such device", path);
		poll(&p, 1, (int)((end - now) / 1000) + 1);
		while (recv(s, event, sizeof(event), 0) > 0)
			;
	}
	return 0;
}

/* Which disk is which: by content, because the order of probing is the kernel's business. */
static int find_disks(
	const char **ret_root, const char **ret_disk, const char **ret_type, struct err *err)
{
	static const char *const disks[] = {"/dev/vda", "/dev/vdb"};

	*ret_root = *ret_disk = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		const char *type;

		if (wait_device(disks[i], err) < 0)
			return -1;
		type = fs_type(disks[i]);
		if (type && strcmp(type, "ext4") != 0 && !*ret_root) {
			*ret_root = disks[i];
			*ret_type = type;
		} else {
			*ret_disk = disks[i];
		}
	}
	if (!*ret_root)
		return err_set(err, ERR_ENV, "root image: neither erofs nor squashfs");
	if (!*ret_disk)
		return err_set(err, ERR_ENV, "no writable disk");
	return 0;
}

static int mount_disk(const char *device, struct err *err)
{
	/* noinit_itable: no background thread that zeroes inode tables of a sparse disk. */
	if (mount(device, DISK, "ext4", MS_NOATIME, "noinit_itable,discard") < 0 &&
		mount(device, DISK, "ext4", MS_NOATIME, NULL) < 0)
		return err_errno(err, "writable disk: mount %s", device);
	if (mkdir(DISK "/store", 0700) < 0 && errno != EEXIST)
		return err_errno(err, "writable disk: store");
	return 0;
}

static int bind_from_disk(const char *from, const char *to, struct err *err)
{
	if (dirs_make(to, 0, 0, err) < 0)
		return -1;
	if (mount(from, to, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, "%s", to + strlen(NEW));
	return 0;
}

static int mount_overlay(const struct layer *l, struct err *err)
{
	_free_ char *dir = layer_make(DISK, l, err), *options = NULL, *docker = NULL;

	if (!dir)
		return -1;
	options = xasprintf("lowerdir=" LOWER ",upperdir=%s/upper,workdir=%s/work", dir, dir);
	docker = xasprintf("%s/docker", dir);
	if (mount("root", NEW, "overlay", MS_NOATIME, options) < 0)
		return err_errno(err, "overlay");
	if (bind_from_disk(docker, NEW "/var/lib/docker", err) < 0)
		return -1;
	return bind_from_disk(DISK "/store", NEW AGENT_STORE, err);
}

/* Kernel file systems go straight to their final place; /dev, already in use, moves there. */
static int mount_kernel(struct err *err)
{
	static const char *const dirs[] = {
		NEW "/dev", NEW "/proc", NEW "/sys", NEW "/run", NEW "/tmp"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
			return err_errno(err, "%s", dirs[i] + strlen(NEW));
	if (mount("/dev", NEW "/dev", NULL, MS_MOVE, NULL) < 0)
		return err_errno(err, "/dev");
	if (mount("proc", NEW "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_errno(err, "/proc");
	if (mount("sysfs", NEW "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_errno(err, "/sys");
	return 0;
}

int root_mount(const struct layer *l, int *ret_disk, int *ret_oldroot, struct err *err)
{
	static const char *const dirs[] = {"/hutch", LOWER, DISK, NEW};
	_close_ int disk = -1, oldroot = -1;
	const char *root_dev, *disk_dev, *type = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		mkdir(dirs[i], 0755);
	if (find_disks(&root_dev, &disk_dev, &type, err) < 0)
		return -1;
	if (mount(root_dev, LOWER, type, MS_RDONLY, NULL) < 0)
		return err_errno(err, "root image: mount %s as %s", root_dev, type);
	trace("image");
	if (mount_disk(disk_dev, err) < 0)
		return -1;
	trace("disk");
	disk = open(DISK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	oldroot = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disk < 0 || oldroot < 0)
		return err_errno(err, "initramfs");
	if (mount_overlay(l, err) < 0 || mount_kernel(err) < 0)
		return -1;
	trace("overlay");
	if (chdir(NEW) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
		chdir("/") < 0)
		return err_errno(err, "switch root");
	*ret_disk = steal_fd(&disk);
	*ret_oldroot = steal_fd(&oldroot);
	return 0;
}

static int link_missing(const char *target, const char *path, struct err *err)
{
	if (symlink(target, path) < 0 && errno != EEXIST)
		return err_errno(err, "%s", path);
	return 0;
}

int mounts_runtime(struct err *err)
{
	static const struct {
		const char *path, *type, *options;
		unsigned long flags;
	} table[] = {
		{"/run", "tmpfs", "mode=0755,size=20%", MS_NOSUID | MS_NODEV},
		{"/dev/pts", "devpts", "gid=5,mode=0620,ptmxmode=0666", MS_NOSUID | MS_NOEXEC},
		{"/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
	};

	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 01777);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (mount(table[i].type, table[i].path, table[i].type, table[i].flags,
			    table[i].options) < 0)
			return err_errno(err, "%s", table[i].path);
	if (link_missing("/proc/self/fd", "/dev/fd", err) < 0 ||
		link_missing("/proc/self/fd/0", "/dev/stdin", err) < 0 ||
		link_missing("/proc/self/fd/1", "/dev/stdout", err) < 0 ||
		link_missing("/proc/self/fd/2", "/dev/stderr", err) < 0)
		return -1;
	if (chmod("/tmp", 01777) < 0 || mkdir("/run/lock", 01777) < 0 ||
		chmod("/run/lock", 01777) < 0 || mkdir("/run/hutch", 0700) < 0 ||
		mkdir(SHARE_DIR, 0700) < 0)
		return err_errno(err, "/run");
	/* Containers expect to see later mounts (exports) below a shared root. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
		return err_errno(err, "shared mounts");
	return 0;
}

bool export_valid(const struct agent_export *e)
{
	if (!e->name[0] || strchr(e->name, '/') || strlen(e->name) > 255 ||
		strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
		return false;
	return path_is_plain(e->path);
}

/* One mount of the virtio-fs device serves all exports. */
static int share_mount(struct err *err)
{
	struct stat share, run;

	if (stat(SHARE_DIR, &share) < 0 || stat("/run/hutch", &run) < 0)
		return err_errno(err, "shared folders");
	if (share.st_dev != run.st_dev)
		return 0;
	if (mount("hutch", SHARE_DIR, "virtiofs", MS_NOSUID | MS_NODEV, NULL) < 0)
		return err_errno(err, "shared folders: mount virtiofs");
	return 0;
}

int export_mount(const struct agent_export *e, struct err *err)
{
	_free_ char *from = NULL;

	if (!export_valid(e))
		return err_set(err, ERR_PEER, "shared folder: bad name or path");
	if (share_mount(err) < 0 || dirs_make(e->path, 0, 0, err) < 0)
		return -1;
	from = xasprintf(SHARE_DIR "/%s", e->name);
	if (mount(from, e->path, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, "shared folder %s", e->path);
	if (e->read_only &&
		mount(NULL, e->path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV,
			NULL) < 0) {
		err_errno(err, "shared folder %s: read-only", e->path);
		umount2(e->path, MNT_DETACH);
		return -1;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Making the default kernel pack: Debian's cloud kernel, downloaded by apt and unpacked without
 * installing.
 *
 * The bzImage is unpacked here rather than in the guest: QEMU enters an ELF kernel with a PVH note
 * directly, and an emulated CPU is spared the decompression. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/rd.h"
#include "image/internal.h"

#define META_PACKAGE "linux-image-cloud-amd64"
#define KERNEL_MAX   (256u << 20)

struct build {
	char *tmp; /* the pack being made */
	int tmp_fd;
	char *package, *release;
	image_progress_fn *progress;
	void *arg;
};

static void find_package(void *arg, const char *line)
{
	struct build *b = arg;
	const char *at = strstr(line, "Depends: linux-image-");

	if (at && !b->package)
		b->package = xstrdup(at + strlen("Depends: "));
}

static int resolve_package(struct build *b, struct err *err)
{
	char **argv = ARGV("apt-cache", "depends", "--important", META_PACKAGE);
	struct job j = {.what = "kernel package",
		.argv = argv,
		.in = CHILD_NULL,
		.out = CHILD_NULL, /* no descriptor of ours: job_run reads it */
		.line = find_package,
		.arg = b};

	if (job_run(&j, err) < 0 || !b->package) {
		err_set(err, ERR_ENV, "apt does not know %s", META_PACKAGE);
		return err_hint(err, "sudo apt-get update");
	}
	b->package[strcspn(b->package, " \t\r\n")] = '\0';
	b->release = xstrdup(b->package + strlen("linux-image-"));
	return 0;
}


static int fetch(struct build *b, struct err *err)
{
	char **argv = ARGV("apt-get", "-q", "-o", "APT::Sandbox::User=", "download", b->package);
	_free_ char *what = xasprintf("downloading %s", b->package);

	b->progress(b->arg, what, 10);
	return job_run(&(struct job){.what = "download of the kernel package",
			       .argv = argv,
			       .in = CHILD_NULL,
			       .out = CHILD_NULL,
			       .cwd = b->tmp_fd},
		err);
}

/* The one file in the directory whose name ends in @end. */
static char *find_name(const char *dir, const char *end)
{
	DIR *d = opendir(dir);
	char *found = NULL;
	struct dirent *e;

	while (d && !found && (e = readdir(d))) {
		size_t n = strlen(e->d_name), m = strlen(end);

		if (n > m && strcmp(e->d_name + n - m, end) == 0)
			found = xstrdup(e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static int unpack(struct build *b, struct err *err)
{
	_free_ char *deb = find_name(b->tmp, ".deb");
	char **argv = ARGV("dpkg-deb", "-x", deb, "x");

	if (!deb)
		return err_set(err, ERR_ENV, "apt-get download left no package");
	b->progress(b->arg, "unpacking the kernel package", 50);
	if (job_run(&(struct job){.what = "kernel package",
			    .argv = argv,
			    .in = CHILD_NULL,
			    .out = CHILD_NULL,
			    .cwd = b->tmp_fd},
		    err) < 0)
		return -1;
	unlinkat(b->tmp_fd, deb, 0);
	return 0;
}

/* The program that unpacks a payload, by its magic number, or NULL. */
static const char *decompressor(const uint8_t *p, size_t len)
{
	static const struct {
		uint8_t magic[4];
		size_t n;
		const char *program;
	} kinds[] = {{{0x1f, 0x8b}, 2, "gzip"}, {{0xfd, '7', 'z', 'X'}, 4, "xz"},
		{{0x28, 0xb5, 0x2f, 0xfd}, 4, "zstd"}, {{0x02, 0x21, 0x4c, 0x18}, 4, "lz4"}};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (len > kinds[i].n && memcmp(p, kinds[i].magic, kinds[i].n) == 0)
			return kinds[i].program;
	return NULL;
}

/* Locate the compressed payload of a bzImage (Linux boot protocol 2.08, payload_offset). */
static struct rd find_payload(const struct buf *image)
{
	struct rd r = rd_make(buf_head(image), buf_len(image));
	uint32_t offset, length;
	size_t setup;

	if (buf_len(image) < 0x250 || memcmp(buf_head(image) + 0x202, "HdrS", 4) != 0)
		return (struct rd){.bad = true};
	setup = buf_head(image)[0x1f1] ? buf_head(image)[0x1f1] : 4;
	rd_bytes(&r, 0x248);
	offset = rd_le32(&r);
	length = rd_le32(&r);
	r = rd_make(buf_head(image), buf_len(image));
	rd_bytes(&r, (setup + 1) * 512);
	rd_bytes(&r, offset);
	r = rd_sub(&r, length);
	return r;
}

/* The kvm engine does not load what is a hole: zeros that the kernel's file spells out. As well as it
 * goes on this file system. */
static void dig_holes(const char *path)
{
	char **argv = ARGV("fallocate", "--dig-holes", path);

	job_run(&(struct job){.what = "holes", .argv = argv, .in = CHILD_NULL, .out = CHILD_NULL}, NULL);
}

/* Write the ELF kernel inside @bz to @to. 1: done, 0: not possible (use the bzImage), -1: error. */
static int extract_elf(struct build *b, const char *bz, const char *to, struct err *err)
{
	_free_ char *part = fs_join(b->tmp, "payload");
	_close_ int in = -1, out = -1;
	_buf_ struct buf image;
	const char *program;
	struct rd payload;
	char magic[4] = "";

	buf_init(&image, KERNEL_MAX);
	if (fs_read_file(AT_FDCWD, bz, &image, err) < 0)
		return -1;
	payload = find_payload(&image);
	program = rd_ok(&payload) ? decompressor(payload.p, rd_left(&payload)) : NULL;
	if (!program)
		return 0;
	/* All formats but gzip are followed by the unpacked size, which is not part of the stream. */
	if (fs_write_file(AT_FDCWD, part, payload.p,
		    rd_left(&payload) - (strcmp(program, "gzip") == 0 ? 0 : 4), 0600, err) < 0)
		return -1;
	in = open(part, O_RDONLY | O_CLOEXEC);
	out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		return err_errno(err, "%s", to);
	char **argv = ARGV(program, "-dc");

	int result =
		job_run(&(struct job){.what = "kernel image", .argv = argv, .in = in, .out = out}, NULL);

	unlink(part);
	if (result < 0)
		return 0;
	dig_holes(to);
	return pread(out, magic, 4, 0) == 4 && memcmp(magic, "\177ELF", 4) == 0;
}

static int take_kernel(struct build *b, struct err *err)
{
	_free_ char *bz = xasprintf("%s/x/boot/vmlinuz-%s", b->tmp, b->release);
	_free_ char *config = xasprintf("%s/x/boot/config-%s", b->tmp, b->release);
	_free_ char *to = fs_join(b->tmp, "kernel"), *config_to = fs_join(b->tmp, "config");
	_buf_ struct buf text;
	int elf = 0;

	buf_init(&text, 4u << 20);
	b->progress(b->arg, "preparing the kernel", 60);
	if (fs_read_file(AT_FDCWD, config, &text, err) < 0)
		return -1;
	if (strstr(buf_cstr(&text), "\nCONFIG_PVH=y"))
		elf = extract_elf(b, bz, to, err);
	if (elf < 0)
		return -1;
	if (!elf && rename(bz, to) < 0)
		return err_errno(err, "%s", bz);
	if (rename(config, config_to) < 0)
		return err_errno(err, "%s", config);
	return 0;
}

static int move_module(struct build *b, const char *path, struct err *err)
{
	_free_ char *to = xasprintf("%s/modules/%s", b->tmp, strrchr(path, '/') + 1);

	return rename(path, to) < 0 ? err_errno(err, "%s", path) : 0;
}

/* The chosen modules of @tree go to modules/; modules.list is what the initramfs is made from. */
static int choose_modules(struct build *b, const char *tree, struct err *err)
{
	_free_ char *list = fs_join(b->tmp, "modules.list");
	struct strv lines = {0};
	_buf_ struct buf text;
	int result;

	buf_init(&text, 1u << 20);
	result = modules_select(tree, &lines, err);
	for (size_t i = 0; result == 0 && i < lines.n; i++) {
		const char *path = strchr(lines.v[i], ' ') + 1;

		if (strncmp(lines.v[i], "demand ", 7) != 0)
			buf_printf(&text, "%.*s%s\n", (int)(path - lines.v[i]), lines.v[i],
				strrchr(path, '/') + 1);
		result = move_module(b, path, err);
	}
	strv_done(&lines);
	if (result < 0)
		return -1;
	return fs_write_file(AT_FDCWD, list, buf_head(&text), buf_len(&text), 0600, err);
}

/* The indexes that modprobe reads, with what is built in. depmod insists on the usual path. */
static int index_modules(struct build *b, const char *tree, struct err *err)
{
	static const char *const keep[] = {
		"modules.builtin", "modules.builtin.modinfo", "modules.order"};
	_free_ char *usual = xasprintf("%s/x/index/lib/modules", b->tmp);
	_free_ char *at = fs_join(usual, b->release), *dir = fs_join(b->tmp, "modules");
	_free_ char *root = fs_join(b->tmp, "x/index");
	/* An ordinary user's PATH has no sbin. */
	const char *depmod = fs_exists("/usr/sbin/depmod") ? "/usr/sbin/depmod" : "depmod";
	char **argv = ARGV(depmod, "-b", root, b->release);

	for (size_t i = 0; i < ARRAY_SIZE(keep); i++) {
		_free_ char *from = fs_join(tree, keep[i]), *to = fs_join(dir, keep[i]);

		if (rename(from, to) < 0 && errno != ENOENT)
			return err_errno(err, "%s", from);
	}
	if (fs_mkdirs(usual, 0700, err) < 0)
		return -1;
	if (rename(dir, at) < 0)
		return err_errno(err, "%s", at);
	if (job_run(&(struct job){.what = "index of the kernel's modules",
			    .argv = argv,
			    .in = CHILD_NULL,
			    .out = CHILD_NULL},
		    err) < 0)
		return err_hint(err, "apt install kmod");
	return rename(at, dir) < 0 ? err_errno(err, "%s", dir) : 0;
}

static int take_modules(struct build *b, struct err *err)
{
	_free_ char *tree = xasprintf("%s/x/lib/modules/%s", b->tmp, b->release);

	b->progress(b->arg, "choosing kernel modules", 80);
	if (!fs_exists(tree)) {
		free(tree);
		tree = xasprintf("%s/x/usr/lib/modules/%s", b->tmp, b->release);
	}
	if (mkdirat(b->tmp_fd, "modules", 0700) < 0)
		return err_errno(err, "modules");
	return choose_modules(b, tree, err) < 0 ? -1 : index_modules(b, tree, err);
}

static int add_to_manifest(struct build *b, const char *name, struct buf *text, char digest[65],
	struct err *err)
{
	_free_ char *path = fs_join(b->tmp, name);
	struct stat st;

	if (file_digest(path, digest, err) < 0 || stat(path, &st) < 0)
		return err_wrap(err, "manifest");
	buf_printf(text, "%s %lld %lld %s\n", digest, (long long)st.st_size,
		st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec, name);
	return 0;
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static int add_modules_to_manifest(struct build *b, struct buf *text, struct err *err)
{
	_free_ char *dir = fs_join(b->tmp, "modules");
	struct dirent **names = NULL;
	char digest[65];
	int n = scandir(dir, &names, is_visible, alphasort), result = 0;

	if (n < 0)
		return err_errno(err, "%s", dir);
	for (int i = 0; i < n; i++) {
		_free_ char *name = xasprintf("modules/%s", names[i]->d_name);

		if (result == 0)
			result = add_to_manifest(b, name, text, digest, err);
		free(names[i]);
	}
	free(names);
	return result;
}

/* Writes the manifest and names the pack after its kernel. */
static int finish(struct build *b, const char *packs, struct err *err)
{
	_free_ char *id = NULL, *path = NULL, *link = NULL;
	_free_ char *link_tmp = NULL, *release = fs_join(b->tmp, "release"), *manifest = NULL;
	_buf_ struct buf text;
	_free_ char *wants = fs_join(b->tmp, "wants"), *wanted = modules_wanted();
	char digest[65], kernel_digest[65];

	buf_init(&text, 1u << 20);
	b->progress(b->arg, "checking the kernel pack", 90);
	if (fs_write_file(AT_FDCWD, release, b->release, strlen(b->release), 0600, err) < 0 ||
		fs_write_file(AT_FDCWD, wants, wanted, strlen(wanted), 0600, err) < 0 ||
		add_to_manifest(b, "kernel", &text, kernel_digest, err) < 0 ||
		add_to_manifest(b, "modules.list", &text, digest, err) < 0 ||
		add_modules_to_manifest(b, &text, err) < 0)
		return -1;
	manifest = fs_join(b->tmp, "manifest");
	if (fs_write_file(AT_FDCWD, manifest, buf_head(&text), buf_len(&text), 0600, err) < 0 ||
		fs_remove_tree(b->tmp_fd, "x", err) < 0)
		return -1;
	/* Another choice of modules is another pack, with an initramfs of its own. */
	if (file_digest(wants, digest, err) < 0)
		return -1;
	id = xasprintf("%s-%.8s%.4s", b->release, kernel_digest, digest);
	path = fs_join(packs, id);
	fs_remove_tree(AT_FDCWD, path, NULL);
	if (file_publish(b->tmp, path, err) < 0)
		return -1;
	link = fs_join(packs, "default");
	link_tmp = fs_join(packs, "default.tmp");
	unlink(link_tmp);
	if (symlink(id, link_tmp) < 0 || rename(link_tmp, link) < 0)
		return err_errno(err, "%s", link);
	return 0;
}

bool kernel_is_current(const char *packs)
{
	_free_ char *path = xasprintf("%s/default/wants", packs), *wanted = modules_wanted();
	_buf_ struct buf b;

	buf_init(&b, 4096);
	return fs_read_file(AT_FDCWD, path, &b, NULL) == 0 && strcmp(buf_cstr(&b), wanted) == 0;
}

int kernel_build(const char *packs, image_progress_fn *progress, void *arg, struct err *err)
{
	struct build b = {.progress = progress, .arg = arg, .tmp_fd = -1};
	int result = -1;

	b.tmp = xasprintf("%s/.build", packs);
	fs_remove_tree(AT_FDCWD, b.tmp, NULL);
	progress(arg, "finding the kernel package", 0);
	if (resolve_package(&b, err) < 0)
		goto out;
	if (mkdir(b.tmp, 0700) < 0 ||
		(b.tmp_fd = open(b.tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		err_errno(err, "%s", b.tmp);
		goto out;
	}
	if (fetch(&b, err) == 0 && unpack(&b, err) == 0 && take_kernel(&b, err) == 0 &&
		take_modules(&b, err) == 0)
		result = finish(&b, packs, err);
	if (result == 0)
		progress(arg, "kernel pack ready", 100);
out:
	fs_remove_tree(AT_FDCWD, b.tmp, NULL);
	close_and_reset(&b.tmp_fd);
	free(b.tmp);
	free(b.package);
	free(b.release);
	return result;
}

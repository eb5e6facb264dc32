/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/image: module choice, the initramfs archive, the pack's manifest, references, disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
#include "image/login.h"

static char dir[] = "/tmp/test_image.XXXXXX";

static void put(const char *path, const void *data, size_t len)
{
	_free_ char *parent = xstrdup(path);
	struct err err = {0};

	if (strrchr(parent, '/')) {
		*strrchr(parent, '/') = '\0';
		assert_int_equal(fs_mkdirs(parent, 0700, NULL), 0);
	}
	if (fs_write_file(AT_FDCWD, path, data, len, 0600, &err) < 0)
		fail_msg("%s", err.msg);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

/* Modules. */

static void put_module(const char *path, const char *depends)
{
	_buf_ struct buf b;

	buf_init(&b, 1000);
	buf_printf(&b, "\177ELF.text.depends=wrong");
	buf_put(&b, "\0license=GPL", 13);
	if (depends) {
		buf_printf(&b, "depends=%s", depends);
		buf_put(&b, "\0retpoline=Y", 13);
	}
	put(path, buf_head(&b), buf_len(&b));
}

/* A tree that has everything a guest boots with, and some of what it may want later; tests change it. */
static void make_tree(void)
{
	assert_int_equal(fs_remove_tree(AT_FDCWD, "tree", NULL), 0);
	put_text("tree/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc16.ko\n"
					 "kernel/drivers/virtio/virtio-ring.ko\n");
	put_module("tree/kernel/drivers/virtio/virtio_mmio.ko", "virtio,virtio_ring");
	put_module("tree/kernel/drivers/virtio/virtio.ko", "virtio_ring");
	put_module("tree/kernel/drivers/virtio/virtio_pci.ko", "virtio");
	put_module("tree/kernel/drivers/virtio/virtio_balloon.ko", "virtio");
	put_module("tree/kernel/drivers/char/hw_random/virtio-rng.ko", "virtio");
	put_module("tree/kernel/drivers/char/virtio_console.ko", "virtio");
	put_module("tree/kernel/drivers/block/virtio_blk.ko", "virtio");
	put_module("tree/kernel/drivers/block/loop.ko", "");
	put_module("tree/kernel/fs/squashfs/squashfs.ko", "lz4-decompress");
	put_module("tree/kernel/lib/lz4_decompress.ko", "");
	put_module("tree/kernel/fs/overlayfs/overlay.ko", NULL);
	put_module("tree/kernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko",
		"vmw_vsock_virtio_transport_common,vsock,virtio");
	put_module("tree/kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko", "vsock");
	put_module("tree/kernel/net/vmw_vsock/vsock.ko", "");
	put_module("tree/kernel/fs/fuse/virtiofs.ko", "fuse");
	put_module("tree/kernel/fs/fuse/fuse.ko", "");
	put_module("tree/kernel/drivers/net/virtio_net.ko", "net-failover");
	put_module("tree/kernel/drivers/net/net_failover.ko", "failover");
	put_module("tree/kernel/drivers/net/failover.ko", "");
	put_module("tree/kernel/drivers/net/unwanted.ko", "");
	put_module("tree/kernel/drivers/net/veth.ko", "failover");
	put_module("tree/kernel/net/netfilter/xt_MASQUERADE.ko", "x_tables");
	put_module("tree/kernel/net/netfilter/x_tables.ko", "");
}

static void modules_in_load_order(void **state)
{
	static const char *const want[] = {"early virtio", "early virtio_mmio", "early virtio_pci",
		"early virtio_blk", "early lz4_decompress", "early squashfs", "early overlay", "late vsock",
		"late vmw_vsock_virtio_transport_common", "late vmw_vsock_virtio_transport", "late fuse",
		"late virtiofs", "late failover", "late net_failover", "late virtio_net",
		"late virtio_balloon", "late virtio-rng", "late virtio_console", "late loop",
		"demand veth", "demand x_tables", "demand xt_MASQUERADE"};
	struct strv lines = {0};
	struct err err;

	make_tree();
	assert_int_equal(modules_select("tree", &lines, &err), 0);
	for (size_t i = 0; i < lines.n; i++) {
		_free_ char *got = xasprintf("%.*s %s", (int)strcspn(lines.v[i], " "), lines.v[i],
			strrchr(lines.v[i], '/') + 1);

		*strstr(got, ".ko") = '\0';
		assert_true(i < ARRAY_SIZE(want));
		assert_string_equal(got, want[i]);
		assert_true(fs_exists(strchr(lines.v[i], ' ') + 1));
	}
	assert_int_equal(lines.n, ARRAY_SIZE(want));
	strv_done(&lines);
}

static void expect_no_modules(const char *message)
{
	struct strv lines = {0};
	struct err err = {0};

	assert_int_equal(modules_select("tree", &lines, &err), -1);
	assert_int_equal(err.class, ERR_ENV);
	if (!strstr(err.msg, message))
		fail_msg("\"%s\" lacks \"%s\"", err.msg, message);
	strv_done(&lines);
}

static void module_trees_that_cannot_be_used(void **state)
{
	_free_ char *commas = xmalloc(500);

	make_tree();
	assert_int_equal(unlink("tree/kernel/drivers/net/failover.ko"), 0);
	expect_no_modules("module failover is neither");

	make_tree();
	assert_int_equal(unlink("tree/kernel/net/netfilter/x_tables.ko"), 0);
	expect_no_modules("module x_tables is neither");

	/* A loop ends. */
	make_tree();
	put_module("tree/kernel/drivers/net/failover.ko", "virtio_net,net_failover");
	expect_no_modules("neither built in");

	make_tree();
	assert_int_equal(rename("tree/kernel/fs/fuse/fuse.ko", "tree/kernel/fs/fuse/fuse.ko.xz"), 0);
	expect_no_modules("compressed modules are not supported");

	make_tree();
	assert_int_equal(unlink("tree/modules.builtin"), 0);
	expect_no_modules("modules.builtin");

	/* Odd but harmless: empty names; a last string without its end. */
	make_tree();
	memset(commas, ',', 499);
	commas[499] = '\0';
	put_module("tree/kernel/fs/fuse/fuse.ko", commas);
	put("tree/kernel/fs/overlayfs/overlay.ko", "\0depends=virtio", 15);
	{
		struct strv lines = {0};

		assert_int_equal(modules_select("tree", &lines, NULL), 0);
		assert_int_equal(lines.n, 22);
		strv_done(&lines);
	}
}

static void an_empty_list_of_builtins(void **state)
{
	struct strv lines = {0};

	make_tree();
	put_text("tree/modules.builtin", "");
	put_module("tree/kernel/fs/ext4/ext4.ko", "crc16");
	put_module("tree/kernel/lib/crc16.ko", "");
	put_module("tree/kernel/drivers/virtio/virtio_ring.ko", "");
	assert_int_equal(modules_select("tree", &lines, NULL), 0);
	assert_int_equal(lines.n, 25);
	assert_non_null(strstr(lines.v[0], "/virtio_ring.ko"));
	strv_done(&lines);
}

/* The initramfs, read back as cpio(5) describes "newc". */

struct member {
	char name[64];
	unsigned mode, links, major, minor, size;
	const uint8_t *data;
};

static unsigned hex(struct rd *r)
{
	char text[9] = "";
	char *end;
	unsigned long v;

	rd_copy(r, text, 8);
	v = strtoul(text, &end, 16);
	assert_int_equal(end - text, 8);
	return (unsigned)v;
}

static void skip_padding(struct rd *r, const uint8_t *start)
{
	while ((r->p - start) % 4)
		assert_int_equal(rd_u8(r), 0);
	assert_true(rd_ok(r));
}

static struct member next_member(struct rd *r, const uint8_t *start)
{
	struct member m = {0};
	unsigned field[13];
	const uint8_t *magic = rd_bytes(r, 6);

	assert_non_null(magic);
	assert_memory_equal(magic, "070701", 6);
	for (size_t i = 0; i < ARRAY_SIZE(field); i++)
		field[i] = hex(r);
	m.mode = field[1];
	assert_int_equal(field[2], 0); /* root's */
	assert_int_equal(field[3], 0);
	m.links = field[4];
	m.size = field[6];
	m.major = field[9];
	m.minor = field[10];
	assert_in_range(field[11], 1, sizeof(m.name));
	rd_copy(r, m.name, field[11]);
	assert_int_equal(strlen(m.name), field[11] - 1);
	skip_padding(r, start);
	m.data = rd_bytes(r, m.size);
	assert_non_null(m.data);
	skip_padding(r, start);
	return m;
}

static void initramfs_members(void **state)
{
	static const struct {
		const char *name;
		unsigned mode;
		const char *data;
	} want[] = {
		{"dev", S_IFDIR | 0755, ""},
		{"proc", S_IFDIR | 0755, ""},
		{"sys", S_IFDIR | 0755, ""},
		{"hutch", S_IFDIR | 0755, ""},
		{"hutch/m", S_IFDIR | 0755, ""},
		{"dev/console", S_IFCHR | 0600, ""},
		{"init", S_IFREG | 0755, "the init\n"},
		{"hutch/m/one.ko", S_IFREG | 0644, "1"},
		{"hutch/m/twenty.ko", S_IFREG | 0644, "22"},
		{"hutch/m/empty.ko", S_IFREG | 0644, ""},
		{"hutch/modules", S_IFREG | 0644,
			"early /hutch/m/one.ko\nlate /hutch/m/twenty.ko\nlate /hutch/m/empty.ko\n"},
		{"TRAILER!!!", 0, ""},
	};
	_buf_ struct buf b;
	const uint8_t *start;
	struct err err;
	struct rd r;

	put_text("pack/modules.list", "early one.ko\nlate twenty.ko\nlate empty.ko\n");
	put_text("pack/modules/one.ko", "1");
	put_text("pack/modules/twenty.ko", "22");
	put_text("pack/modules/empty.ko", "");
	put_text("hutch-init", "the init\n");
	assert_int_equal(initramfs_write("pack", "hutch-init", "out.cpio", &err), 0);

	buf_init(&b, 1 << 20);
	assert_int_equal(fs_read_file(AT_FDCWD, "out.cpio", &b, &err), 0);
	start = buf_head(&b);
	r = rd_make(start, buf_len(&b));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct member m = next_member(&r, start);

		assert_string_equal(m.name, want[i].name);
		assert_int_equal(m.mode, want[i].mode);
		assert_int_equal(m.size, strlen(want[i].data));
		assert_memory_equal(m.data, want[i].data, m.size);
		assert_int_equal(m.links, S_ISDIR(m.mode) ? 2 : 1);
		assert_int_equal(m.major, S_ISCHR(m.mode) ? 5 : 0);
		assert_int_equal(m.minor, S_ISCHR(m.mode) ? 1 : 0);
	}
	assert_true(rd_done(&r));
}

static void initramfs_of_a_damaged_pack(void **state)
{
	static const char *const lists[] = {"nospace\n", "early ../../escape.ko\n", "early absent.ko\n",
		"early one.ko\n\n"};

	put_text("hutch-init", "the init\n");
	put_text("pack/modules/one.ko", "1");
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct err err = {0};

		put_text("pack/modules.list", lists[i]);
		assert_int_equal(initramfs_write("pack", "hutch-init", "bad.cpio", &err), -1);
		assert_string_not_equal(err.msg, "");
		assert_false(fs_exists("bad.cpio"));
	}
	put_text("pack/modules.list", "");
	assert_int_equal(initramfs_write("pack", "absent-init", "bad.cpio", NULL), -1);
	assert_int_equal(initramfs_write("pack", "hutch-init", "good.cpio", NULL), 0);
}

/* The manifest. */

static void put_manifest(const char *text)
{
	put_text("kpack/manifest", text);
}

static long long mtime_ns(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
}

/* Whether the pack passes the check; what follows needs hutch-init, which is not beside this test. */
static bool pack_is_whole(void)
{
	struct kernel_pack p;
	struct err err = {0};
	bool whole = image_kernel(&p, &err) == 0 || strstr(err.msg, "hutch-init");

	kernel_pack_done(&p);
	if (!whole) {
		assert_int_equal(err.class, ERR_ENV);
		assert_non_null(strstr(err.msg, "corrupt"));
		assert_string_equal(err.hint, "hutch image build --force");
	}
	return whole;
}

static void manifest_is_checked(void **state)
{
	char sum[65], module_sum[65];
	_free_ char *good = NULL, *old = NULL;

	setenv("HUTCH_KERNEL", "kpack", 1);
	put_text("kpack/kernel", "kernel");
	put_text("kpack/modules.list", "");
	put_text("kpack/modules/a.ko", "module");
	assert_int_equal(file_digest("kpack/kernel", sum, NULL), 0);
	assert_string_equal(sum, "6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c");
	assert_int_equal(file_digest("kpack/modules/a.ko", module_sum, NULL), 0);
	assert_int_equal(file_digest("kpack/absent", module_sum, NULL), -1);
	assert_int_equal(file_digest("kpack/modules/a.ko", module_sum, NULL), 0);

	assert_false(pack_is_whole()); /* no manifest */
	good = xasprintf("%s 6 %lld kernel\n%s 6 %lld modules/a.ko\n", sum, mtime_ns("kpack/kernel"),
		module_sum, mtime_ns("kpack/modules/a.ko"));
	put_manifest(good);
	assert_true(pack_is_whole());

	/* Another time: believed only when the digest agrees. */
	old = xasprintf("%s 6 1 kernel\n%s 6 1 modules/a.ko\n", sum, module_sum);
	put_manifest(old);
	assert_true(pack_is_whole());
	put_text("kpack/kernel", "KERNEL");
	assert_false(pack_is_whole());
	put_text("kpack/kernel", "kernel longer");
	assert_false(pack_is_whole());
	put_text("kpack/kernel", "kernel");
	assert_true(pack_is_whole());
	assert_int_equal(unlink("kpack/modules/a.ko"), 0);
	assert_false(pack_is_whole());
	put_text("kpack/modules/a.ko", "module");
	assert_true(pack_is_whole());

	/* Cut short at any byte of its first line, and garbage. */
	for (size_t n = 0; n <= strcspn(old, "\n"); n++) {
		put("kpack/manifest", old, n);
		assert_false(pack_is_whole());
	}
	put_manifest("x y z kernel\n");
	assert_false(pack_is_whole());
	put_manifest("\n kernel\n");
	assert_false(pack_is_whole());
	unsetenv("HUTCH_KERNEL");
}

/* The name of the pack that is used today; "" when there is none. */
static char *current_name(void)
{
	_free_ char *path = kernel_current(NULL);

	return xstrdup(path ? strrchr(path, '/') + 1 : "");
}

static void expect_current(const char *want)
{
	_free_ char *got = current_name(), *text = NULL, *mark = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_string_equal(got, want);
	assert_int_equal(image_list(f, false, NULL), 0);
	fclose(f);
	/* The list marks one kernel, this one, and shows each once. */
	mark = xasprintf("kernel  %s ", want);
	if (*want) {
		assert_non_null(strstr(text, mark));
		assert_null(strstr(strstr(text, mark) + 1, mark));
		assert_true(strstr(text, "current") > strstr(text, mark));
		assert_true(memchr(strstr(text, mark), '\n', len) > (void *)strstr(text, "current"));
	}
	assert_int_equal(*want != '\0', strstr(text, "current") != NULL);
}

static void the_small_kernel_goes_first(void **state)
{
	static const char packs[] = "data/hutch/kernels";

	unsetenv("HUTCH_KERNEL");
	put_text("data/hutch/kernels/6.1-stock/kernel", "stock");
	put_text("data/hutch/kernels/6.12-small/kernel", "small");
	expect_current("");
	assert_int_equal(symlink("6.1-stock", "data/hutch/kernels/default"), 0);
	expect_current("6.1-stock");
	assert_int_equal(symlink("6.12-small", "data/hutch/kernels/small"), 0);
	expect_current("6.12-small");
	/* Another default pack, as `hutch image build --force` makes it, changes nothing. */
	put_text("data/hutch/kernels/6.1-newer/kernel", "newer");
	assert_int_equal(unlink("data/hutch/kernels/default"), 0);
	assert_int_equal(symlink("6.1-newer", "data/hutch/kernels/default"), 0);
	expect_current("6.12-small");
	/* What the user names goes before both. */
	setenv("HUTCH_KERNEL", "data/hutch/kernels/6.1-stock", 1);
	expect_current("6.1-stock");
	unsetenv("HUTCH_KERNEL");
	/* A link to a pack that is gone counts as none. */
	assert_int_equal(fs_remove_tree(AT_FDCWD, "data/hutch/kernels/6.12-small", NULL), 0);
	expect_current("6.1-newer");
	assert_int_equal(fs_remove_tree(AT_FDCWD, packs, NULL), 0);
}

static void a_damaged_pack_names_its_maker(void **state)
{
	struct kernel_pack p;
	struct err err = {0};

	setenv("HUTCH_KERNEL", "damaged", 1);
	put_text("damaged/manifest", "x y z kernel\n");
	assert_int_equal(image_kernel(&p, &err), -1);
	assert_string_equal(err.hint, "hutch image build --force");
	kernel_pack_done(&p);
	put_text("damaged/recipe", "source\n");
	assert_int_equal(image_kernel(&p, &err), -1);
	assert_string_equal(err.hint, "tools/build-kernel --force");
	kernel_pack_done(&p);
	unsetenv("HUTCH_KERNEL");
}

static void kernels_that_are_not_there(void **state)
{
	struct kernel_pack p;
	struct err err;

	unsetenv("HUTCH_KERNEL");
	assert_int_equal(image_kernel(&p, &err), -1);
	assert_string_equal(err.hint, "hutch image build");
	kernel_pack_done(&p);
	setenv("HUTCH_KERNEL", "/no/such/kernel", 1);
	assert_int_equal(image_kernel(&p, &err), -1);
	assert_non_null(strstr(err.msg, "/no/such/kernel"));
	kernel_pack_done(&p);
	unsetenv("HUTCH_KERNEL");
}

/* References and disks. */

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER  "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static void root_references(void **state)
{
	_free_ char *path = NULL, *pinned = NULL;
	struct err err;

	assert_int_equal(image_find("base", NULL, &path, &pinned, &err), -1);
	assert_int_equal(err.class, ERR_ENV);
	assert_string_equal(err.hint, "hutch image build");
	put_text("data/hutch/images/" DIGEST ".img", "image");
	put_text("data/hutch/images/base.ref", DIGEST);
	assert_int_equal(image_find("base", NULL, &path, &pinned, &err), 0);
	assert_string_equal(pinned, "base@" DIGEST);
	assert_non_null(strstr(path, "/hutch/images/" DIGEST ".img"));
	free(path);
	free(pinned);
	/* A pinned reference does not follow the name. */
	put_text("data/hutch/images/base.ref", OTHER);
	assert_int_equal(image_find("base@" DIGEST, NULL, &path, &pinned, &err), 0);
	assert_string_equal(pinned, "base@" DIGEST);
	free(path);
	free(pinned);
	path = pinned = NULL;
	assert_int_equal(image_find("base", NULL, &path, &pinned, &err), -1);
	assert_int_equal(image_find("base@" OTHER, NULL, &path, &pinned, &err), -1);
	assert_non_null(strstr(err.hint, "hutch rm"));
	for (const char *const *bad = (const char *const[]){"base@", "base@../../../etc/passwd",
		     "base@" DIGEST "0", "base@0123456789ABCDEF", "ubuntu", "", "@" DIGEST, NULL};
		*bad; bad++) {
		assert_int_equal(image_find(*bad, NULL, &path, &pinned, &err), -1);
		assert_int_equal(err.class, ERR_USER);
	}
	/* A damaged reference is none. */
	put_text("data/hutch/images/base.ref", "../../x");
	assert_int_equal(image_find("base", NULL, &path, &pinned, &err), -1);
	assert_null(path);
	assert_null(pinned);
}

static void disks_are_sparse(void **state)
{
	static const uint64_t size = 1ull << 30;
	uint8_t magic[2] = {0};
	struct stat st;
	struct err err = {0};

	if (image_disk_create("disk.img", size, &err) < 0)
		fail_msg("%s", err.msg);
	{
		_close_ int fd = open("disk.img", O_RDONLY);

		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(pread(fd, magic, 2, 1024 + 0x38), 2);
	}
	assert_int_equal(st.st_size, size);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_blocks * 512 < 64 << 20);
	assert_memory_equal(magic, "\x53\xef", 2); /* ext4 */
	assert_false(fs_exists("disk.img.tmp"));
	/* The second one comes from the template. */
	assert_int_equal(image_disk_create("disk2.img", size, &err), 0);
	assert_int_equal(image_disk_create("absent/disk.img", size, &err), -1);
}

static int make_dir(void **state)
{
	_free_ char *data = NULL;

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	data = fs_join(dir, "data");
	return setenv("XDG_DATA_HOME", data, 1);
}

static int drop_dir(void **state)
{
	return fs_remove_tree(AT_FDCWD, dir, NULL);
}

static void logins_of_programs(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *auth, *token;
	} rows[] = {
		{"{\"ServerURL\": \"r\", \"Username\": \"me\", \"Secret\": \"secret\"}", 0,
			"bWU6c2VjcmV0", ""},
		{"{\"Username\": \"<token>\", \"Secret\": \"t\"}", 0, "", "t"},
		{"{\"Username\": \"<token>\", \"Secret\": \"\"}", 0, "", ""},
		{"{\"Username\": \"\", \"Secret\": \"\"}", 0, "", ""},
		{"{\"Username\": \"me\"}", -1, "", ""},
		{"{\"Username\": \"m:e\", \"Secret\": \"x\"}", -1, "", ""},
		{"{\"Username\": 1, \"Secret\": \"x\"}", -1, "", ""},
		{"[]", -1, "", ""},
		{"", -1, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct login l = {0};

		assert_int_equal(login_parse(rows[i].text, &l), rows[i].result);
		assert_string_equal(l.auth ? l.auth : "", rows[i].auth);
		assert_string_equal(l.token ? l.token : "", rows[i].token);
		login_done(&l);
	}
}

static void logins_of_config(void **state)
{
	static const struct {
		const char *text, *host, *helper, *auth, *token;
	} rows[] = {
		{"{\"auths\": {\"r.example\": {\"auth\": \"YTpi\"}}}", "r.example", "", "YTpi", ""},
		{"{\"auths\": {\"r.example\": {\"auth\": \"YTpi\"}}}", "r.example:5000", "", "", ""},
		{"{\"auths\": {\"https://r.example\": {\"auth\": \"YTpi\", \"identitytoken\": \"t\"}}}",
			"r.example", "", "", "t"},
		{"{\"auths\": {\"https://index.docker.io/v1/\": {\"auth\": \"YTpi\"}}}", "docker.io", "",
			"YTpi", ""},
		{"{\"auths\": {\"r.example\": {\"auth\": \"a\\nb\"}}}", "r.example", "", "", ""},
		{"{\"credsStore\": \"all\", \"credHelpers\": {\"r.example\": \"one\"}}", "r.example",
			"one", "", ""},
		{"{\"credsStore\": \"all\", \"credHelpers\": {\"r.example\": \"one\"}}", "x.example",
			"all", "", ""},
		/* An empty one takes the host out of what credsStore keeps. */
		{"{\"credsStore\": \"all\", \"credHelpers\": {\"r.example\": \"\"}}", "r.example", "",
			"", ""},
		{"{\"credsStore\": 7, \"auths\": []}", "r.example", "", "", ""},
		{"{", "r.example", "", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct login l = {0};
		_free_ char *helper = login_parse_config(rows[i].text, rows[i].host, &l);

		assert_string_equal(helper ? helper : "", rows[i].helper);
		assert_string_equal(l.auth ? l.auth : "", rows[i].auth);
		assert_string_equal(l.token ? l.token : "", rows[i].token);
		login_done(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modules_in_load_order),
		cmocka_unit_test(module_trees_that_cannot_be_used),
		cmocka_unit_test(an_empty_list_of_builtins),
		cmocka_unit_test(initramfs_members),
		cmocka_unit_test(initramfs_of_a_damaged_pack),
		cmocka_unit_test(kernels_that_are_not_there),
		cmocka_unit_test(the_small_kernel_goes_first),
		cmocka_unit_test(a_damaged_pack_names_its_maker),
		cmocka_unit_test(manifest_is_checked),
		cmocka_unit_test(root_references),
		cmocka_unit_test(logins_of_programs),
		cmocka_unit_test(logins_of_config),
		cmocka_unit_test(disks_are_sparse),
	};

	return cmocka_run_group_tests(tests, make_dir, drop_dir);
}

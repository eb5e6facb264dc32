/* SPDX-License-Identifier: Apache-2.0 */
/* File server: sequences of FUSE messages and host-side changes against a scratch directory.
 *
 * Input: records of
 *   op, node, fh, name, room, n   one byte each; then n bytes of arguments
 * node and fh pick from what the server has handed out so far; name picks a string that follows the
 * arguments (or none; for operations with two names, fh picks the second). op 60 and above are
 * things that the host does in between. Whatever happens, the secret beside the export must neither
 * be read nor touched, and no descriptor may be left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/rd.h"
#include "fuse/fuse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ANSWER   (1u << 16)
#define RECORDS  200
#define KNOWN    40u
#define FILE_MAX (1u << 20)

struct fuzz {
	char base[48];
	char secret[32]; /* another one each time: the fuzzer must not learn it */
	int dir, share, outside;
	struct fuse_server *s;
	uint64_t nodes[KNOWN], fhs[KNOWN];
	unsigned n_nodes, n_fhs;
	uint8_t answer[ANSWER];
};

static const char *const names[] = {NULL, "a", "b", "d", "link", "fifo", "new", "d2", "..", ".",
	"x/y", "/etc/passwd", "outlink", "user.k", "w", "", "e0", "e1", "e2", "e3", "e4", "e5",
	"e6", "e7", "e8", "e9", "ea", "eb", "ec", "ed", "ee", "ef"};

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	MUST(fd >= 0);
	MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static int make_dir(int at, const char *name)
{
	int fd;

	MUST(mkdirat(at, name, 0755) == 0);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(fd >= 0);
	return fd;
}

static void setup(struct fuzz *f)
{
	const struct fuse_config cfg = {1000, 1000, FUSE_FDS_MIN, 40, true};
	struct fuse_init_in in = {.major = 7, .minor = 38, .flags = UINT32_MAX};
	struct fuse_in_header h = {.len = sizeof(h) + sizeof(in), .opcode = FUSE_INIT};
	struct iovec out[2] = {{&h, sizeof(h)}, {&in, sizeof(in)}};
	struct iovec ans = {f->answer, ANSWER};
	static uint64_t runs;
	struct err err;

	snprintf(f->secret, sizeof(f->secret), "canary%016llx",
		(unsigned long long)(++runs * 0x9e3779b97f4a7c15ull));
	snprintf(f->base, sizeof(f->base), "%s/hutch-fuzz-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	MUST(mkdtemp(f->base));
	f->dir = open(f->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->share = make_dir(f->dir, "share");
	f->outside = make_dir(f->dir, "outside");
	put(f->outside, "a", f->secret);
	put(f->share, "a", "content of a");
	put(f->share, "b", "b");
	close(make_dir(f->share, "d"));
	put(f->share, "d/a", "inner");
	for (unsigned i = 16; i < ARRAY_SIZE(names); i++) /* more than the budget holds */
		close(make_dir(f->share, names[i]));
	MUST(symlinkat("../outside/a", f->share, "link") == 0);
	MUST(symlinkat("../outside", f->share, "outlink") == 0);
	MUST(mkfifoat(f->share, "fifo", 0644) == 0);
	f->s = fuse_server_new(&cfg, &err);
	MUST(f->s);
	MUST(fuse_export_add(f->s, "w", dup(f->share), false, &err) == 0);
	MUST(fuse_export_add(f->s, "r", dup(f->share), true, &err) == 0);
	MUST(fuse_handle(f->s, out, 2, &ans, 1) > 16);
	f->nodes[0] = FUSE_ROOT_ID;
	f->n_nodes = 1;
}

static void check_outside(const struct fuzz *f)
{
	char text[64] = "";
	struct stat st;
	int fd = openat(f->outside, "a", O_RDONLY | O_CLOEXEC);
	unsigned n = 0;
	DIR *d;

	MUST(fd >= 0);
	MUST(fstat(fd, &st) == 0 && st.st_nlink == 1 && (st.st_mode & 07777) == 0644);
	MUST(read(fd, text, sizeof(text) - 1) == (ssize_t)strlen(f->secret));
	MUST(strcmp(text, f->secret) == 0);
	close(fd);
	fd = openat(f->outside, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fdopendir(fd);
	while (readdir(d))
		n++;
	closedir(d);
	MUST(n == 3);
}

static void teardown(struct fuzz *f)
{
	struct err err;

	fuse_reset(f->s);
	MUST(fuse_usage(f->s).inodes == 1 && fuse_usage(f->s).fds == 0);
	fuse_server_free(f->s);
	check_outside(f);
	close(f->share);
	close(f->outside);
	close(f->dir);
	/* directories that the guest locked */
	if (fs_remove_tree(AT_FDCWD, f->base, &err) < 0) {
		char cmd[192];

		snprintf(cmd, sizeof(cmd), "chmod -R u+rwx %s && rm -rf %s", f->base, f->base);
		MUST(system(cmd) == 0);
	}
}

/* What somebody on the host does while the guest works. */
static void host_acts(const struct fuzz *f, unsigned what)
{
	/* not through the link that stands there at times */
	int d = openat(f->share, "d", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	switch (what % 8) {
	case 0:
		unlinkat(f->share, "a", 0);
		(void)!symlinkat("../outside/a", f->share, "a");
		break;
	case 1:
		(void)!renameat(f->share, "d", f->share, "d2");
		(void)!symlinkat("../outside", f->share, "d");
		break;
	case 2:
		unlinkat(f->share, "d", 0);
		(void)!renameat(f->share, "d2", f->share, "d");
		break;
	case 3:
		unlinkat(f->share, "b", 0);
		(void)!mkfifoat(f->share, "b", 0644);
		break;
	case 4:
		(void)!renameat(f->share, "a", d, "a");
		break;
	case 5:
		(void)!renameat(d, "a", f->share, "a");
		break;
	case 6:
		(void)!renameat(f->share, "d", f->dir, "elsewhere");
		(void)!symlinkat("../outside", f->share, "d");
		break;
	default:
		unlinkat(f->share, "d", 0);
		(void)!renameat(f->dir, "elsewhere", f->share, "d");
		break;
	}
	if (d >= 0)
		close(d);
}

static void remember(uint64_t *list, unsigned *n, uint64_t id)
{
	if (id)
		list[(*n)++ % KNOWN] = id;
}

static uint64_t pick(const uint64_t *list, unsigned n, uint8_t sel)
{
	unsigned have = MIN(n, KNOWN);

	if (sel >= 0xf0 || !have)
		return (uint64_t)sel << 32 | (sel & 7);
	return list[sel % have];
}

/* Put ids where the operation expects them, so that deep code is reached. */
static void fix_args(
	const struct fuzz *f, uint32_t op, uint8_t node, uint8_t fh, uint8_t *args, size_t len)
{
	uint64_t v = pick(f->fhs, f->n_fhs, fh), other = pick(f->nodes, f->n_nodes, node + 1);

	if (op == FUSE_RENAME || op == FUSE_RENAME2 || op == FUSE_LINK)
		v = other;
	else if (op == FUSE_COPY_FILE_RANGE && len >= 40) {
		uint64_t same = pick(f->nodes, f->n_nodes, node);

		memcpy(args + 16, fh & 1 ? &same : &other, 8);
		memcpy(args + 24, &v, 8);
		v = pick(f->fhs, f->n_fhs, fh + 1);
	} else if (op == FUSE_FALLOCATE && len >= 24) {
		/* allocation ignores the limit on file sizes */
		for (unsigned i = 8; i < 24; i++)
			if (i % 8 >= 2)
				args[i] = 0;
	} else if (op == FUSE_LOOKUP || op == FUSE_GETATTR || op == FUSE_SETATTR ||
		   op == FUSE_CREATE || op == FUSE_OPEN || op == FUSE_MKNOD || op == FUSE_MKDIR ||
		   op == FUSE_INIT || op == FUSE_FORGET || op == FUSE_SETXATTR ||
		   op == FUSE_GETXATTR)
		return;
	if (len >= 8)
		memcpy(args, &v, 8);
}

static void learn(struct fuzz *f, uint32_t op, size_t len)
{
	struct fuse_entry_out e;
	struct fuse_open_out o;
	const uint8_t *p = f->answer + 16;

	if (len == sizeof(e) || len == sizeof(e) + sizeof(o)) {
		memcpy(&e, p, sizeof(e));
		remember(f->nodes, &f->n_nodes, e.nodeid);
		p += sizeof(e);
		len -= sizeof(e);
	}
	if (len == sizeof(o) && (op == FUSE_OPEN || op == FUSE_OPENDIR || op == FUSE_CREATE ||
					op == FUSE_TMPFILE)) {
		memcpy(&o, p, sizeof(o));
		remember(f->fhs, &f->n_fhs, o.fh);
	}
}

static bool record(struct fuzz *f, struct rd *r)
{
	uint8_t op = rd_u8(r), node = rd_u8(r), fh = rd_u8(r), name = rd_u8(r), room = rd_u8(r);
	size_t len = rd_u8(r), name_len;
	uint8_t msg[40 + 255 + 64];
	struct fuse_in_header h = {.opcode = op};
	struct fuse_out_header o;
	const char *text = names[name % ARRAY_SIZE(names)];
	struct iovec out[3], in[2];
	size_t got, space;

	if (!rd_ok(r))
		return false;
	len = MIN(len, rd_left(r));
	if (op >= 60) {
		host_acts(f, op);
		return true;
	}
	rd_copy(r, msg + 40, len);
	fix_args(f, op, node, fh, msg + 40, len);
	name_len = text ? strlen(text) + 1 : 0;
	if (text)
		memcpy(msg + 40 + len, text, name_len);
	if (op == FUSE_RENAME || op == FUSE_RENAME2 || op == FUSE_SYMLINK) {
		const char *second = names[fh % ARRAY_SIZE(names)];
		size_t n = second ? strlen(second) + 1 : 0;

		if (second)
			memcpy(msg + 40 + len + name_len, second, n);
		name_len += n;
	}
	h.len = (uint32_t)(sizeof(h) + len + name_len);
	h.nodeid = pick(f->nodes, f->n_nodes, node);
	memcpy(msg, &h, sizeof(h));
	out[0] = (struct iovec){msg, MIN(h.len, 7u + room)};
	out[1] = (struct iovec){msg + out[0].iov_len, h.len - out[0].iov_len};
	space = room >= 0x20 ? ANSWER : room * 11u;
	in[0] = (struct iovec){f->answer, space / 3};
	in[1] = (struct iovec){f->answer + space / 3, space - space / 3};
	got = fuse_handle(f->s, out, 2, in, 2);
	MUST(got == 0 || (got >= sizeof(o) && got <= space));
	if (!got)
		return true;
	memcpy(&o, f->answer, sizeof(o));
	MUST(o.len == got && o.error <= 0 && o.error > -134);
	MUST(!memmem(f->answer, got, f->secret, strlen(f->secret)));
	learn(f, op, got - sizeof(o));
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;
	const struct rlimit lim = {FILE_MAX, RLIM_INFINITY};
	struct rd r = rd_make(data, size);
	int first = dup(0), last;

	close(first);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &lim);
	memset(&f, 0, sizeof(f));
	setup(&f);
	for (unsigned i = 0; i < RECORDS && rd_left(&r) && record(&f, &r); i++)
		MUST(fuse_usage(f.s).fds <= FUSE_FDS_MIN);
	teardown(&f);
	last = dup(0);
	MUST(first == last); /* no descriptor left behind */
	close(last);
	return 0;
}

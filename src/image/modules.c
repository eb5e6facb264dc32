/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernel modules a guest needs, and in which order.
 *
 * Those that it boots with are in the initramfs. Others stay in the pack, which the guest sees
 * read-only below /usr/lib/modules: its modprobe takes them from there when something wants them, so
 * they cost a boot nothing.
 *
 * A package that was only unpacked has no modules.dep, so dependencies are read from the modules
 * themselves: the "depends=" string of their .modinfo section. */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "image/internal.h"

#define MODULE_MAX (16u << 20)

/* Early: without them there is no root. Late ones load before it is mounted, too. */
static const struct {
	const char *name;
	bool early;
} wanted[] = {
	{"virtio_mmio", true},
	{"virtio_pci", true},
	{"virtio_blk", true},
	{ROOT_FS_MODULE, true},
	{"ext4", true},
	{"overlay", true},
	{"vmw_vsock_virtio_transport", false},
	{"virtiofs", false},
	{"virtio_net", false},
	{"virtio_balloon", false},
	{"virtio_rng", false},
	{"virtio_console", false},
	{"loop", false}, /* loaded where volumes have sizes */
};

/* Container engines and their networks, with either kind of iptables; tunnels. */
static const char *const on_demand[] = {
	"bridge", "br_netfilter", "veth", "dummy", "macvlan", "ipvlan", "vxlan", "tun",
	"nf_conntrack_netlink", "xfrm_user",
	/* iptables on nf_tables, and rules of nft */
	"nf_tables", "nft_compat", "nft_chain_nat", "nft_ct", "nft_fib_inet", "nft_limit", "nft_log",
	"nft_masq", "nft_nat", "nft_redir", "nft_reject_inet",
	/* iptables as it was */
	"iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw", "ip6table_filter",
	"ip6table_nat", "ip6table_mangle", "ip6table_raw", "ipt_REJECT", "ip6t_REJECT",
	"xt_addrtype", "xt_comment", "xt_connmark", "xt_conntrack", "xt_limit", "xt_mark",
	"xt_MASQUERADE", "xt_multiport", "xt_nat", "xt_owner", "xt_REDIRECT", "xt_state",
	"xt_statistic", "xt_tcpudp", "xt_TCPMSS",
};

char *modules_wanted(void)
{
	_buf_ struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		buf_printf(&b, "%s ", wanted[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(on_demand); i++)
		buf_printf(&b, "%s%s", i ? " " : "/ ", on_demand[i]);
	return xstrdup(buf_cstr(&b));
}

struct select {
	const char *phase;
	struct strv *lines; /* result */
	struct strv names;  /* canonical names of what is selected already */
	struct strv files, file_names; /* all modules in the tree, same index */
	char *builtin; /* text of modules.builtin with every - as _ */
};

/* Module names use _ and - alike. */
static char *canonical(const char *s, size_t len)
{
	char *name = xstrndup(s, len);

	for (char *c = name; *c; c++)
		if (*c == '-')
			*c = '_';
	return name;
}

static int scan(struct select *s, const char *tree, struct err *err)
{
	char *roots[] = {(char *)(uintptr_t)tree, NULL};
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *e;

	if (!walk)
		return err_errno(err, "%s", tree);
	while ((e = fts_read(walk))) {
		const char *dot = strstr(e->fts_name, ".ko");

		if (e->fts_info != FTS_F || !dot)
			continue;
		strv_add(&s->files, e->fts_path);
		strv_take(&s->file_names, canonical(e->fts_name, (size_t)(dot - e->fts_name)));
	}
	fts_close(walk);
	return 0;
}

static const char *find_file(const struct select *s, const char *name)
{
	for (size_t i = 0; i < s->file_names.n; i++)
		if (strcmp(s->file_names.v[i], name) == 0)
			return s->files.v[i];
	return NULL;
}

static bool is_builtin(const struct select *s, const char *name)
{
	_free_ char *needle = xasprintf("/%s.ko", name);

	return strstr(s->builtin, needle) != NULL;
}

/* The value of "depends=" in the module's .modinfo: NUL-separated key=value strings. */
static char *depends_of(const char *path, struct err *err)
{
	static const char key[] = "\0depends=";
	_buf_ struct buf b;
	const char *at;

	buf_init(&b, MODULE_MAX);
	if (fs_read_file(AT_FDCWD, path, &b, err) < 0)
		return NULL;
	at = memmem(buf_head(&b), buf_len(&b), key, sizeof(key) - 1);
	if (!at)
		return xstrdup("");
	at += sizeof(key) - 1;
	return xstrndup(at, strnlen(at, buf_len(&b) - (size_t)(at - (const char *)buf_head(&b))));
}

static int select_one(struct select *s, const char *wanted_name, int depth, struct err *err)
{
	_free_ char *name = canonical(wanted_name, strlen(wanted_name)), *deps = NULL;
	const char *path;

	if (strv_has(&s->names, name) || is_builtin(s, name))
		return 0;
	path = find_file(s, name);
	if (!path || depth > 16)
		return err_set(err, ERR_ENV, "kernel: module %s is neither built in nor in its package",
			name);
	if (strcmp(strrchr(path, '.'), ".ko") != 0)
		return err_set(err, ERR_ENV, "%s: compressed modules are not supported", path);
	deps = depends_of(path, err);
	if (!deps)
		return -1;
	for (char *d = deps; *d;) {
		size_t len = strcspn(d, ",");
		_free_ char *dep = xstrndup(d, len);

		if (len && select_one(s, dep, depth + 1, err) < 0)
			return -1;
		d += len + (d[len] == ',');
	}
	strv_add(&s->names, name);
	strv_addf(s->lines, "%s %s", s->phase, path);
	return 0;
}

int modules_select(const char *tree, struct strv *ret_lines, struct err *err)
{
	struct select s = {.lines = ret_lines};
	_free_ char *path = fs_join(tree, "modules.builtin");
	_buf_ struct buf text;
	int result;

	buf_init(&text, 4u << 20);
	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return -1;
	s.builtin = canonical((const char *)buf_head(&text), buf_len(&text));
	result = scan(&s, tree, err);
	for (size_t i = 0; result == 0 && i < ARRAY_SIZE(wanted); i++) {
		s.phase = wanted[i].early ? "early" : "late";
		result = select_one(&s, wanted[i].name, 0, err);
	}
	s.phase = "demand";
	/* What a guest can boot without, a kernel may lack. */
	for (size_t i = 0; result == 0 && i < ARRAY_SIZE(on_demand); i++)
		if (find_file(&s, on_demand[i]))
			result = select_one(&s, on_demand[i], 0, err);
	strv_done(&s.names);
	strv_done(&s.files);
	strv_done(&s.file_names);
	free(s.builtin);
	return result;
}

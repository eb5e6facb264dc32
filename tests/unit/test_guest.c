/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of the guest's boot that can run on a scratch directory: users, trust stores, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "guest/control.h"
#include "guest/init.h"

#define BUNDLE "/etc/ssl/certs/ca-certificates.crt"
#define LOCAL  "/usr/local/share/ca-certificates"

/* ── scratch root ─────────────────────────────────────────────────────────────────────────── */

static int setup(void **state)
{
	char *root = xstrdup("/tmp/hutch-root.XXXXXX");

	*state = root;
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	int result = fs_remove_tree(AT_FDCWD, *state, NULL);

	free(*state);
	return result;
}

static char *at(const char *root, const char *name)
{
	return xasprintf("%s%s", root, name);
}

static void put(const char *root, const char *name, const char *text)
{
	_free_ char *path = at(root, name);
	struct err err = {0};

	if (dirs_make_parent(path, 0, 0, &err) < 0 ||
		fs_write_file(AT_FDCWD, path, text, strlen(text), 0644, &err) < 0)
		fail_msg("%s", err.msg);
}

/* Owned text of a file, NULL when it is absent. */
static char *get(const char *root, const char *name)
{
	_free_ char *path = at(root, name);
	_buf_ struct buf b;

	buf_init(&b, 1u << 20);
	if (fs_read_file(AT_FDCWD, path, &b, NULL) < 0)
		return NULL;
	return xstrdup(buf_cstr(&b));
}

static void assert_text(const char *root, const char *name, const char *want)
{
	_free_ char *have = get(root, name);

	assert_non_null(have);
	assert_string_equal(have, want);
}

static ino_t inode(const char *root, const char *name)
{
	_free_ char *path = at(root, name);
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_ino;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

/* ── small things ─────────────────────────────────────────────────────────────────────────── */

static void test_words(void **state)
{
	static const struct {
		const char *path;
		bool plain;
	} paths[] = {{"/a", true}, {"/a/b.c/..d", true}, {"/", false}, {"", false}, {"a", false},
		{"/a/", false}, {"//a", false}, {"/a//b", false}, {"/.", false}, {"/a/./b", false},
		{"/a/..", false}, {"/../a", false}, {"/...", true}};
	static const struct {
		const char *name;
		bool valid;
	} hosts[] = {{"box", true}, {"a-1.b", true}, {"", false}, {"-a", false}, {".a", false},
		{"a b", false}, {"a\n", false}, {"a/b", false}};
	char longest[66] = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert_int_equal(path_is_plain(paths[i].path), paths[i].plain);
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		assert_int_equal(hostname_valid(hosts[i].name), hosts[i].valid);
	memset(longest, 'x', 65);
	assert_false(hostname_valid(longest));
	longest[64] = '\0';
	assert_true(hostname_valid(longest));

	assert_true(cmdline_has("a hutch.trace b\n", "hutch.trace"));
	assert_true(cmdline_has("hutch.trace", "hutch.trace"));
	assert_true(cmdline_has("hutch.tracer hutch.trace\n", "hutch.trace"));
	assert_false(cmdline_has("xhutch.trace hutch.trace=1", "hutch.trace"));
	assert_false(cmdline_has("", "hutch.trace"));
	assert_int_equal(cmdline_number("a hutch.generation=12 b\n", "hutch.generation="), 12);
	assert_int_equal(cmdline_number("xhutch.generation=1 hutch.generation=2", "hutch.generation="), 2);
	assert_int_equal(cmdline_number("hutch.generation", "hutch.generation="), 0);
}

static void test_layers(void **state)
{
	const struct layer first = {0}, third = {.generation = 3}, fresh = {.generation = 3, .fresh = true};
	_free_ char *a = NULL, *b = NULL, *c = NULL, *kept = NULL;
	struct err err;

	a = layer_make(*state, &first, &err);
	assert_string_equal(a, *state);
	b = layer_make(*state, &third, &err);
	kept = xasprintf("%s/upper/kept", b);
	put(*state, "/g3/upper/kept", "x");
	free(layer_make(*state, &third, &err));
	assert_int_equal(access(kept, F_OK), 0);
	c = layer_make(*state, &fresh, &err); /* half of an attempt */
	assert_string_equal(b, c);
	assert_int_equal(access(kept, F_OK), -1);
	for (const char *const *n = (const char *const[]){"upper", "work", "docker", "g1", "g4", NULL}; *n; n++)
		assert_true(layer_is_stale(*n, &third));
	for (const char *const *n = (const char *const[]){"g3", "store", "lost+found", "g", "g0", "g03", "g1x", "G1", NULL};
		*n; n++)
		assert_false(layer_is_stale(*n, &third));
	assert_false(layer_is_stale("upper", &first));
	assert_true(layer_is_stale("g1", &first));
}

static void test_exports(void **state)
{
	static const struct {
		const char *name, *path;
		bool valid;
	} table[] = {{"e0", "/home/u/p", true}, {"", "/p", false}, {"a/b", "/p", false},
		{".", "/p", false}, {"..", "/p", false}, {"e0", "/", false}, {"e0", "p", false},
		{"e0", "/a/../b", false}};
	struct err err = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct agent_export e = {
			(char *)(uintptr_t)table[i].name, (char *)(uintptr_t)table[i].path, false};

		assert_int_equal(export_valid(&e), table[i].valid);
		if (!table[i].valid)
			assert_int_equal(export_mount(&e, &err), -1);
	}
}

static void test_environment(void **state)
{
	struct strv env = {0};

	(void)state;
	env_set(&env, "A=1");
	env_set(&env, "AB=2");
	env_set(&env, "A=3");
	env_set(&env, "=x");
	env_set(&env, "nothing");
	assert_int_equal(env.n, 2);
	assert_string_equal(env_get(&env, "A"), "3");
	assert_string_equal(env_get(&env, "AB"), "2");
	assert_null(env_get(&env, "B"));
	strv_done(&env);
}

static void test_file_put(void **state)
{
	const char *root = *state;
	_free_ char *path = at(root, "/file"), *fifo = at(root, "/fifo"), *link = at(root, "/link");
	struct stat st;
	struct err err = {0};
	ino_t before;
	_buf_ struct buf b;

	assert_int_equal(file_put_text(path, "text", 0640, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	before = inode(root, "/file");
	assert_int_equal(file_put_text(path, "text", 0640, &err), 0);
	assert_int_equal(inode(root, "/file"), before); /* not written again */
	assert_int_equal(file_put_text(path, "texT", 0640, &err), 0);
	assert_int_not_equal(inode(root, "/file"), before);
	assert_text(root, "/file", "texT");

	/* A link is replaced, not followed. */
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(file_put_text(link, "own", 0644, &err), 0);
	assert_text(root, "/file", "texT");
	assert_text(root, "/link", "own");

	/* Neither a FIFO nor a directory nor a large file stops PID 1. */
	buf_init(&b, 4);
	assert_int_equal(mkfifo(fifo, 0644), 0);
	assert_int_equal(file_read(fifo, &b, &err), -1);
	assert_int_equal(file_read(root, &b, &err), -1);
	assert_int_equal(file_read(path, &b, &err), 0);
	assert_int_equal(buf_len(&b), 4);
	buf_reset(&b);
	put(root, "/large", "12345");
	free(path);
	path = at(root, "/large");
	assert_int_equal(file_read(path, &b, &err), -1);
	assert_int_equal(file_put_text(fifo, "now a file", 0644, &err), 0);
	assert_text(root, "/fifo", "now a file");
}

/* ── users ────────────────────────────────────────────────────────────────────────────────── */

static void test_user_find(void **state)
{
	static const struct {
		const char *name;
		uid_t uid;
		gid_t gid;
		const char *home, *shell, *canonical;
		size_t groups;
	} table[] = {
		{"", 1000, 1000, "/home/agent", "/bin/bash", "agent", 3},
		{"agent", 1000, 1000, "/home/agent", "/bin/bash", "agent", 3},
		{"1000", 1000, 1000, "/home/agent", "/bin/bash", "agent", 3},
		{"root", 0, 0, "/root", "/bin/sh", "root", 1},
		{"0", 0, 0, "/root", "/bin/sh", "root", 1},
		{"bare", 7, 8, "/", "/bin/sh", "bare", 1},
		{"4242", 4242, 4242, "/", "/bin/sh", "", 1},
	};
	static const char *const unknown[] = {"nobody-here", "agen", "agentx", "-1", "4294967295",
		"99999999999999999999", "short", "bad", "1000x"};
	struct err err;

	put(*state, "/etc/passwd",
		"\n:::\nroot:x:0:0:root:/root:\nshort:x:5\nbad:x:5x:5::/:/bin/sh\n"
		"agent:x:1000:1000:A:/home/agent:/bin/bash\nbare:x:7:8:::\n"
		"later:x:1000:1000::/x:/y");
	put(*state, "/etc/group",
		"root:x:0:\nsudo:x:27:other,agent\ndocker:x:99:agent\nalmost:x:98:agents,xagent\n"
		"agent:x:1000:agent\nbad:x:z:agent\nshort\n");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct user u;

		assert_int_equal(user_find(*state, table[i].name, &u, &err), 0);
		assert_int_equal(u.uid, table[i].uid);
		assert_int_equal(u.gid, table[i].gid);
		assert_string_equal(u.home, table[i].home);
		assert_string_equal(u.shell, table[i].shell);
		assert_string_equal(u.name, table[i].canonical);
		assert_int_equal(u.n_groups, table[i].groups);
		assert_int_equal(u.groups[0], table[i].gid);
		user_done(&u);
	}
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		struct user u = {0};

		err = (struct err){0};
		assert_int_equal(user_find(*state, unknown[i], &u, &err), -1);
		assert_int_equal(err.errnum, EINVAL);
		assert_null(u.name);
	}
}

static void test_agent_is_made(void **state)
{
	const char *root = *state;
	struct err err = {0};
	struct user u;

	put(root, "/etc/passwd",
		"root:x:0:0:root:/root:/bin/bash\nnode:x:1000:1000::/home/node:/bin/sh\n");
	put(root, "/etc/group", "root:x:0:\nnode:x:1000:");
	put(root, "/etc/shadow", "root:*:1:0:99999:7:::\n");
	put(root, "/etc/sudoers.d/README", "");
	if (users_ensure_agent(root, &err) < 0 && geteuid() != 0) {
		print_message("changing owners needs root: %s\n", err.msg);
		skip();
	}
	assert_text(root, "/etc/passwd",
		"root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000::/home/agent:/bin/sh\n"
		"node:x:1000:1000::/home/node:/bin/sh\n");
	assert_text(root, "/etc/group", "root:x:0:\nagent:x:1000:\nnode:x:1000:\n");
	assert_text(root, "/etc/shadow", "root:*:1:0:99999:7:::\nagent:*:19000:0:99999:7:::\n");
	assert_text(root, "/etc/sudoers.d/hutch-agent", "agent ALL=(ALL:ALL) NOPASSWD:ALL\n");
	/* The number means the agent, although another user has it too. */
	assert_int_equal(user_find(root, "1000", &u, &err), 0);
	assert_string_equal(u.name, "agent");
	user_done(&u);
	{
		_free_ char *home = at(root, "/home/agent");

		assert_int_equal(access(home, X_OK), 0);
	}
	/* Twice changes nothing. */
	ino_t before = inode(root, "/etc/passwd");

	assert_int_equal(users_ensure_agent(root, &err), 0);
	assert_int_equal(inode(root, "/etc/passwd"), before);
}

/* An image without any user database, without sudo. */
static void test_agent_in_empty_image(void **state)
{
	const char *root = *state;
	struct err err = {0};
	_free_ char *sudoers = NULL;

	put(root, "/etc/hostname", "x");
	assert_int_equal(users_ensure_agent(root, &err), 0);
	assert_text(root, "/etc/passwd",
		"root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n");
	assert_text(root, "/etc/group", "root:x:0:\nagent:x:1000:\n");
	sudoers = get(root, "/etc/sudoers.d/hutch-agent");
	assert_null(sudoers);
}

/* An image whose agent is another one, in number and home: kits rely on ours. */
static void test_another_agent(void **state)
{
	const char *root = *state;
	struct err err = {0};
	struct user u;

	put(root, "/etc/passwd",
		"root:x:0:0::/root:/bin/ash\nx:x:1:1::/:/bin/false\nagent:x:500:500::/srv:/bin/ash\n");
	put(root, "/etc/group", "agent:x:500:\n");
	assert_int_equal(users_ensure_agent(root, &err), 0);
	assert_text(root, "/etc/passwd",
		"root:x:0:0::/root:/bin/ash\nagent:x:1000:1000::/home/agent:/bin/sh\n"
		"x:x:1:1::/:/bin/false\n");
	assert_text(root, "/etc/group", "root:x:0:\nagent:x:1000:\n");
	assert_int_equal(user_find(root, "agent", &u, &err), 0);
	assert_int_equal(u.uid, 1000);
	user_done(&u);
	/* One that is as it should be keeps all that is its own. */
	put(root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nagent:x:1000:7::/home/agent:/bin/zsh\n");
	assert_int_equal(users_ensure_agent(root, &err), 0);
	assert_text(root, "/etc/passwd",
		"root:x:0:0::/root:/bin/sh\nagent:x:1000:7::/home/agent:/bin/zsh\n");
}

/* ── trust ────────────────────────────────────────────────────────────────────────────────── */

static char *pem(const char *body)
{
	return xasprintf("-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n", body);
}

static void buf_text(struct buf *b, const char *text)
{
	buf_init(b, 1u << 20);
	buf_puts(b, text);
}

static int trust_install(const char *root, struct buf *pem, struct strv *env, struct err *err)
{
	if (trust_files(root, pem, err) < 0)
		return -1;
	if (buf_len(pem))
		trust_env(env);
	return 0;
}

static int install(const char *root, const char *text)
{
	struct strv env = {0};
	struct err err = {0};
	_buf_ struct buf sent;
	int result;

	buf_text(&sent, text);
	result = trust_install(root, &sent, &env, &err);
	strv_done(&env);
	return result;
}

static void test_trust(void **state)
{
	const char *root = *state;
	_free_ char *a = pem("AAAA"), *b = pem("BBBB\nbbbb"), *ca = pem("SANDBOX");
	_free_ char *b_wrapped = pem("BB\r\nBBbb\nbb"); /* the same certificate */
	_free_ char *sent = xasprintf("# comment\n%s%s%s", a, b, ca);
	_free_ char *image = xasprintf("# image\n%s", b_wrapped);
	_free_ char *want = xasprintf("# image\n%s%s%s", b_wrapped, a, ca);
	_free_ char *extras = xasprintf("%s%s", a, ca);
	_free_ char *rotated = NULL, *bundle = NULL;
	ino_t before;

	put(root, BUNDLE, image);
	put(root, "/usr/lib/ssl/openssl.cnf", "");
	assert_int_equal(install(root, sent), 0);
	assert_text(root, BUNDLE, want);
	assert_text(root, LOCAL "/hutch-host.crt", extras);
	assert_text(root, LOCAL "/hutch-sandbox.crt", ca);
	{
		_free_ char *link = at(root, "/usr/lib/ssl/cert.pem");
		char target[64] = "";

		assert_true(readlink(link, target, sizeof(target) - 1) > 0);
		assert_string_equal(target, BUNDLE);
	}
	/* The next start has nothing to do. */
	before = inode(root, BUNDLE);
	assert_int_equal(install(root, sent), 0);
	assert_int_equal(inode(root, BUNDLE), before);
	assert_text(root, BUNDLE, want);

	/* Rebuilt by the image's own tool, without ours: added again, and the extras stay known. */
	put(root, BUNDLE, image);
	assert_int_equal(install(root, sent), 0);
	assert_text(root, BUNDLE, want);
	assert_text(root, LOCAL "/hutch-host.crt", extras);

	/* Another sandbox CA: only that one is new. */
	rotated = xasprintf(
		"%s%s-----BEGIN CERTIFICATE-----\nNEW\n-----END CERTIFICATE-----\n", a, b);
	assert_int_equal(install(root, rotated), 0);
	bundle = get(root, BUNDLE);
	assert_int_equal(count(bundle, "AAAA"), 1);
	assert_int_equal(count(bundle, "NEW"), 1);
	assert_int_equal(count(bundle, "BEGIN"), 4);
	free(bundle);
	bundle = get(root, LOCAL "/hutch-host.crt");
	assert_int_equal(count(bundle, "AAAA"), 1);
	assert_int_equal(count(bundle, "NEW"), 1);
	assert_int_equal(count(bundle, "SANDBOX"), 0);
}

static void test_trust_without_bundle(void **state)
{
	const char *root = *state;
	_free_ char *a = pem("AAAA"), *ca = pem("SANDBOX"), *sent = xasprintf("%s%s%s", a, a, ca);
	_free_ char *want = xasprintf("# other family\n%s%s", a, ca);
	struct strv env = {0};
	struct err err = {0};
	_buf_ struct buf b;

	put(root, "/etc/pki/tls/certs/ca-bundle.crt", "# other family\n");
	buf_text(&b, sent);
	assert_int_equal(trust_install(root, &b, &env, &err), 0);
	assert_text(root, BUNDLE, want); /* once each */
	assert_text(root, "/etc/pki/tls/certs/ca-bundle.crt", want);
	assert_string_equal(env_get(&env, "SSL_CERT_FILE"), BUNDLE);
	assert_string_equal(env_get(&env, "NODE_EXTRA_CA_CERTS"), LOCAL "/hutch-host.crt");
	strv_done(&env);
}

static void test_trust_hostile(void **state)
{
	static const char *const nonsense[] = {"no certificate",
		"-----BEGIN CERTIFICATE-----\nAAAA\n",
		"-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n"};
	const char *root = *state;
	_free_ char *ca = pem("SANDBOX");
	_free_ char *fifo = at(root, BUNDLE);
	struct strv env = {0};
	_buf_ struct buf many, none;

	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++)
		assert_int_equal(install(root, nonsense[i]), -1);
	/* Nothing sent: nothing done, no variables. */
	buf_init(&none, 16);
	assert_int_equal(trust_install(root, &none, &env, NULL), 0);
	assert_int_equal(env.n, 0);

	/* Many begin marks and one end: linear, and the last block counts. */
	buf_init(&many, 4u << 20);
	for (int i = 0; i < 20000; i++)
		buf_puts(&many, "-----BEGIN CERTIFICATE-----\n");
	buf_puts(&many, ca);
	put(root, BUNDLE, buf_cstr(&many));
	assert_int_equal(install(root, ca), 0);
	assert_text(root, BUNDLE, buf_cstr(&many)); /* it is there already */

	assert_int_equal(unlink(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0644), 0);
	assert_int_equal(install(root, ca), -1); /* and does not block */
}

/* ── files of the network and of logins ───────────────────────────────────────────────────── */

static void test_net_files(void **state)
{
	const char *root = *state;
	struct err err = {0};
	_free_ char *hosts = NULL;
	_free_ char *resolv = at(root, "/etc/resolv.conf");

	put(root, "/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 boxer\n");
	assert_int_equal(symlink("../run/elsewhere", resolv), 0);
	assert_int_equal(net_files(root, "box", &err), 0);
	assert_text(root, "/etc/hostname", "box\n");
	assert_text(root, "/etc/resolv.conf", "nameserver 10.0.2.2\n");
	hosts = get(root, "/etc/hosts");
	assert_non_null(strstr(hosts, "127.0.0.1\tlocalhost\n"));
	assert_non_null(strstr(hosts, "127.0.1.1\tbox\n"));
	/* What was added inside stays. */
	put(root, "/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 x box\n10.0.0.9 mine\n");
	assert_int_equal(net_files(root, "box", &err), 0);
	assert_text(root, "/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 x box\n10.0.0.9 mine\n");
	assert_int_equal(net_files(root, "bad name", &err), -1);
}

static void test_login_files(void **state)
{
	const char *root = *state;
	struct strv env = {0};
	struct err err = {0};
	_free_ char *path = at(root, "/etc/profile.d/hutch.sh");
	_free_ char *command = xasprintf(". %s && printf %%s \"$A\"", path);
	char got[64] = "";
	FILE *f;

	strv_add(&env, "A=it's $(false) `x` \"q\"\nline");
	strv_add(&env, "PATH=/bin");
	strv_add(&env, "B-AD=x");
	strv_add(&env, "1X=x");
	strv_add(&env, "C\";=x");
	assert_int_equal(login_files(root, &env, &err), 0);
	/* The shell gives the value back unchanged. */
	f = popen(command, "r");
	assert_true(fread(got, 1, sizeof(got) - 1, f) > 0);
	assert_int_equal(pclose(f), 0);
	assert_string_equal(got, "it's $(false) `x` \"q\"\nline");
	{
		_free_ char *sudo = get(root, "/etc/sudoers.d/hutch-env");

		assert_null(sudo); /* no sudo in this image */
	}
	put(root, "/etc/sudoers.d/README", "");
	assert_int_equal(login_files(root, &env, &err), 0);
	assert_text(root, "/etc/sudoers.d/hutch-env", "Defaults env_keep += \"A\"\n");
	strv_done(&env);
}

/* ── control stream ───────────────────────────────────────────────────────────────────────── */

struct seen {
	unsigned setups, exports, stops;
	uint64_t clock;
	size_t ca_len;
	int result; /* of setup and export */
};

static int seen_setup(void *ctx, const struct agent_setup *s, struct buf *ca, struct err *err)
{
	struct seen *seen = ctx;

	seen->setups++;
	seen->ca_len = buf_len(ca);
	assert_string_equal(s->hostname, "box");
	return seen->result < 0 ? err_set(err, ERR_ENV, "setup went wrong") : 0;
}

static int seen_export(void *ctx, const struct agent_export *e, struct err *err)
{
	struct seen *seen = ctx;

	seen->exports++;
	assert_string_equal(e->path, "/p");
	return seen->result < 0 ? err_set(err, ERR_ENV, "export went wrong") : 0;
}

static void seen_clock(void *ctx, uint64_t ns)
{
	((struct seen *)ctx)->clock = ns;
}

static void seen_stop(void *ctx, const char *why)
{
	((struct seen *)ctx)->stops++;
	assert_non_null(why);
}

static const struct control_ops seen_ops = {
	.setup = seen_setup, .export = seen_export, .clock = seen_clock, .shutdown = seen_stop};

/* Control stream @c on its own loop, with the host's end in *ret_host. */
static struct loop *open_control(struct control *c, struct seen *seen, int *ret_host)
{
	struct loop *l = loop_new(NULL);
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(control_open(c, l, pair[1], &seen_ops, seen, NULL), 0);
	*ret_host = pair[0];
	return l;
}

/* Send what is in @b, let the guest's side work, and return the type of its answer (0: none). */
static uint8_t exchange(struct loop *l, int host, struct buf *b)
{
	struct rd payload;
	uint8_t type = 0, probe;
	_buf_ struct buf answer;

	assert_int_equal(fd_write_all(host, buf_head(b), buf_len(b)), 0);
	buf_reset(b);
	for (int round = 0; round < 10; round++) {
		loop_once(l, 0, NULL);
		if (recv(host, &probe, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
			break;
	}
	buf_init(&answer, 1u << 16);
	if (recv(host, &probe, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
		return 0;
	assert_true(buf_read(&answer, host, 1u << 16) > 0);
	assert_int_equal(agent_next(&answer, &type, &payload), 1);
	return type;
}

static void put_setup(struct buf *b)
{
	struct agent_setup s = {.hostname = (char *)"box"};

	agent_put_setup(b, &s);
}

static void put_export(struct buf *b)
{
	struct agent_export e = {(char *)"e0", (char *)"/p", false};

	agent_put_export(b, &e);
}

static void test_control(void **state)
{
	static const uint8_t clock[8] = {1, 2};
	struct seen seen = {0};
	struct control c;
	int host;
	struct loop *l = open_control(&c, &seen, &host);
	_buf_ struct buf b;

	(void)state;
	buf_init(&b, 1u << 20);
	assert_int_equal(exchange(l, host, &b), AGENT_HELLO);
	agent_put(&b, AGENT_CA, "abc", 3);
	agent_put(&b, AGENT_CA, "def", 3);
	put_setup(&b);
	assert_int_equal(exchange(l, host, &b), AGENT_READY);
	assert_int_equal(seen.setups, 1);
	assert_int_equal(seen.ca_len, 6);
	put_export(&b);
	assert_int_equal(exchange(l, host, &b), AGENT_DONE);
	seen.result = -1;
	put_export(&b);
	assert_int_equal(exchange(l, host, &b), AGENT_ERROR);
	assert_int_equal(seen.exports, 2);
	agent_put(&b, AGENT_CLOCK, clock, sizeof(clock));
	assert_int_equal(exchange(l, host, &b), 0);
	assert_int_equal(seen.clock, 0x201);
	agent_put(&b, AGENT_SHUTDOWN, NULL, 0);
	assert_int_equal(exchange(l, host, &b), 0);
	assert_int_equal(seen.stops, 1);
	assert_non_null(c.s); /* open until the machine ends */
	close(host);
	for (int i = 0; i < 3; i++)
		loop_once(l, 0, NULL);
	assert_int_equal(seen.stops, 2);
	assert_null(c.s);
	control_close(&c);
	loop_free(l);
}

static void test_control_setup_fails(void **state)
{
	struct seen seen = {.result = -1};
	struct control c;
	int host;
	struct loop *l = open_control(&c, &seen, &host);
	_buf_ struct buf b;

	(void)state;
	buf_init(&b, 1u << 20);
	exchange(l, host, &b);
	put_setup(&b);
	assert_int_equal(exchange(l, host, &b), AGENT_ERROR);
	put_export(&b); /* not ready: not allowed */
	exchange(l, host, &b);
	assert_int_equal(seen.exports, 0);
	assert_int_equal(seen.stops, 1);
	close(host);
	control_close(&c);
	loop_free(l);
}

/* Whatever makes no sense ends the sandbox. */
static void test_control_hostile(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} table[] = {
		{"\0\0\0\0\0", 5},
		{"\0\0\0\0\100", 5},
		{"\0\0\0\0\1", 5},
		{"\0\0\0\0\3", 5},
		{"\0\0\0\0\5", 5},
		{"\3\0\0\0\6abc", 8},
		{"\1\0\0\0\7x", 6},
		{"\377\377\377\377\2", 5},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct seen seen = {0};
		struct control c;
		int host;
		struct loop *l = open_control(&c, &seen, &host);
		_buf_ struct buf b;

		buf_init(&b, 1u << 20);
		exchange(l, host, &b);
		buf_put(&b, table[i].bytes, table[i].len);
		exchange(l, host, &b);
		assert_int_equal(seen.stops, 1);
		assert_int_equal(seen.setups + seen.exports, 0);
		assert_null(c.s);
		close(host);
		control_close(&c);
		loop_free(l);
	}
}

/* A failed boot tells the host why, after its HELLO. */
static void test_control_fail(void **state)
{
	struct err err = {.errnum = 28, .msg = "disk is full"};
	struct rd payload;
	uint32_t num;
	uint8_t type;
	char *text;
	int pair[2];
	pid_t pid;
	_buf_ struct buf b;

	(void)state;
	buf_init(&b, 1u << 16);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		control_fail(pair[1], false, &err);
		_exit(0);
	}
	close(pair[1]);
	while (buf_read(&b, pair[0], 4096) > 0)
		;
	waitpid(pid, NULL, 0);
	assert_int_equal(agent_next(&b, &type, &payload), 1);
	assert_int_equal(type, AGENT_HELLO);
	assert_int_equal(rd_le32(&payload), AGENT_VERSION);
	agent_consume(&b);
	assert_int_equal(agent_next(&b, &type, &payload), 1);
	assert_int_equal(type, AGENT_ERROR);
	assert_int_equal(agent_get_error(payload, &num, &text), 0);
	assert_int_equal(num, 28);
	assert_string_equal(text, "disk is full");
	free(text);
	close(pair[0]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_exports),
		cmocka_unit_test(test_environment),
		T(test_layers),
		T(test_file_put),
		T(test_user_find),
		T(test_agent_is_made),
		T(test_agent_in_empty_image),
		T(test_another_agent),
		T(test_trust),
		T(test_trust_without_bundle),
		T(test_trust_hostile),
		T(test_net_files),
		T(test_login_files),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_control_setup_fails),
		cmocka_unit_test(test_control_hostile),
		cmocka_unit_test(test_control_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The plan: defaults, precedence, what kits add up to, and every refusal. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "kit/plan.h"

#define GIB (1ULL << 30)
#define MIB (1ULL << 20)

#define BASE                                                                                       \
	"schemaVersion: \"2\"\nkind: sandbox\nname: shell\n"                                       \
	"sandbox: {image: base, entrypoint: [bash], command: {interactive: [-l]}}\n"
#define MIXIN(name) "schemaVersion: \"2\"\nkind: mixin\nname: " name "\n"

/* A request on a machine of 8 cores and 16 GiB, with a workspace of its own. */
struct fx {
	char root[64]; /* temporary, real path */
	char *work;    /* root/My Project.v2 */
	struct kit kits[4];
	struct plan_request req;
	struct err err;
};

static int setup(void **state)
{
	struct fx *fx = xcalloc(1, sizeof(*fx));
	_free_ char *real = NULL;

	strcpy(fx->root, "/tmp/hutch-test-plan-XXXXXX");
	assert_non_null(mkdtemp(fx->root));
	real = realpath(fx->root, NULL);
	assert_string_equal(real, fx->root);
	fx->work = fs_join(fx->root, "My Project.v2");
	assert_int_equal(mkdir(fx->work, 0755), 0);
	fx->req.kits = fx->kits;
	fx->req.host_cpus = 8;
	fx->req.host_memory_bytes = 16 * GIB;
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < fx->req.n_kits; i++)
		kit_done(&fx->kits[i]);
	strv_done(&fx->req.env);
	strv_done(&fx->req.mounts);
	strv_done(&fx->req.args);
	strv_done(&fx->req.allow);
	strv_done(&fx->req.resolves);
	assert_int_equal(fs_remove_tree(AT_FDCWD, fx->root, NULL), 0);
	free(fx->work);
	free(fx);
	return 0;
}

static void add_kit(struct fx *fx, const char *text)
{
	struct kit_errors errs = {0};

	if (kit_load_text(text, strlen(text), "k", NULL, &fx->kits[fx->req.n_kits], &errs) < 0)
		kit_errors_print(&errs, stderr);
	assert_int_equal(errs.n_errors, 0);
	kit_errors_done(&errs);
	fx->req.n_kits++;
}

static struct box_spec plan(struct fx *fx)
{
	struct box_spec s = {0};

	if (plan_make(&fx->req, &s, &fx->err) < 0)
		fail_msg("%s", fx->err.msg);
	return s;
}

/* @says has %R for the temporary directory. */
static void refused(struct fx *fx, const char *says)
{
	struct box_spec s = {.cpus = 77};
	const char *mark = strstr(says, "%R");
	_free_ char *want =
		mark ? xasprintf("%.*s%s%s", (int)(mark - says), says, fx->root, mark + 2)
		     : xstrdup(says);

	memset(&fx->err, 0, sizeof(fx->err));
	assert_int_equal(plan_make(&fx->req, &s, &fx->err), -1);
	assert_string_equal(fx->err.msg, want);
	assert_int_equal(fx->err.class, ERR_USER);
	assert_int_equal(s.cpus, 77); /* untouched */
}

static void test_defaults(void **state)
{
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, BASE);
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	assert_string_equal(s.name, "shell-my-project-v2");
	assert_string_equal(s.agent, "shell");
	assert_int_equal(s.kits.n, 1);
	assert_int_equal(s.engine, SPEC_ENGINE_AUTO);
	assert_int_equal(s.cpus, 2);
	assert_true(s.memory_bytes == 4 * GIB);
	assert_true(s.disk_bytes == 16 * GIB);
	assert_string_equal(s.image, "base");
	assert_string_equal(s.user, "agent");
	assert_string_equal(s.workdir, fx->work);
	assert_int_equal(s.n_mounts, 1);
	assert_string_equal(s.mounts[0].guest_path, fx->work);
	assert_false(s.mounts[0].read_only);
	assert_string_equal(s.entrypoint.v[0], "bash");
	assert_int_equal(s.command_default.n, 0);
	assert_string_equal(s.command_interactive.v[0], "-l");
	assert_int_equal(s.net.n_rules, 0);
	assert_int_equal(s.n_files, 0);
	assert_false(s.remove_on_exit);
	spec_done(&s);
}

#define IMAGE_KIT(rest)                                                                            \
	"schemaVersion: \"2\"\nkind: sandbox\nname: tool\n"                                        \
	"sandbox: {image: \"r.test/tool:1\"" rest "}\n"
#define PIN "oci://r.test/tool@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* "ENTRYPOINT | COMMAND" of a plan. */
static char *launch(const struct box_spec *s)
{
	_buf_ struct buf b = {.max = 4096};

	for (size_t i = 0; i < s->entrypoint.n; i++)
		buf_printf(&b, "%s ", s->entrypoint.v[i]);
	buf_puts(&b, "|");
	for (size_t i = 0; i < s->command_interactive.n; i++)
		buf_printf(&b, " %s", s->command_interactive.v[i]);
	return xstrdup(buf_cstr(&b));
}

/* Who says what runs: the kit, then the image, then nobody. */
static void test_image_launch(void **state)
{
	static const struct {
		const char *kit, *entrypoint, *cmd, *want;
	} rows[] = {
		{IMAGE_KIT(""), "tini", "serve", "tini | serve"},
		{IMAGE_KIT(""), NULL, "serve", "| serve"},
		{IMAGE_KIT(""), "tini", NULL, "tini |"},
		{IMAGE_KIT(", command: [mine]"), "tini", "serve", "tini | mine"},
		{IMAGE_KIT(", command: [mine]"), NULL, "serve", "| mine"},
		{IMAGE_KIT(", entrypoint: [own]"), "tini", "serve", "own |"},
		{IMAGE_KIT(", entrypoint: [own], command: [mine]"), "tini", "serve", "own | mine"},
		{IMAGE_KIT(""), NULL, NULL,
			"sh -c if command -v bash >/dev/null; then exec bash -l \"$@\"; fi; "
			"exec sh -l \"$@\" sh |"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fx *fx = *state;
		struct image_config c = {0};
		_free_ char *got = NULL;
		struct box_spec s;

		add_kit(fx, rows[i].kit);
		if (rows[i].entrypoint)
			strv_add(&c.entrypoint, rows[i].entrypoint);
		if (rows[i].cmd)
			strv_add(&c.cmd, rows[i].cmd);
		assert_string_equal(plan_image(fx->kits, 1), "r.test/tool:1");
		fx->req.image = PIN;
		fx->req.image_config = &c;
		strv_done(&fx->req.mounts);
		strv_add(&fx->req.mounts, fx->work);
		s = plan(fx);
		assert_string_equal(s.image, PIN);
		got = launch(&s);
		assert_string_equal(got, rows[i].want);
		spec_done(&s);
		image_config_done(&c);
		kit_done(&fx->kits[0]);
		fx->req.n_kits = 0;
	}
}

/* Beneath what kits and the user say; what is the sandbox's own business stays out. */
static void test_image_env(void **state)
{
	static const char *const env[] = {"PATH=/opt/bin:/bin", "LANG=C", "A=image", "B=image",
		"C=image", "HOME=/root", "SSL_CERT_FILE=/x", "HUTCH_X=1", "1x=2", "novalue"};
	struct fx *fx = *state;
	struct image_config c = {0};
	struct box_spec s;

	add_kit(fx, IMAGE_KIT("") "environment: {variables: {B: kit, C: kit}}\n");
	for (size_t i = 0; i < ARRAY_SIZE(env); i++)
		strv_add(&c.env, env[i]);
	strv_add(&fx->req.mounts, fx->work);
	strv_add(&fx->req.env, "C=user");
	fx->req.image = PIN;
	fx->req.image_config = &c;
	strv_add(&fx->req.layers, PIN);
	s = plan(fx);
	strv_done(&fx->req.layers);
	assert_int_equal(s.env.n, 5);
	assert_true(strv_has(&s.env, "PATH=/opt/bin:/bin:/home/agent/.local/bin"));
	assert_true(strv_has(&s.env, "LANG=C"));
	assert_true(strv_has(&s.env, "A=image"));
	assert_true(strv_has(&s.env, "B=kit"));
	assert_true(strv_has(&s.env, "C=user"));
	assert_int_equal(s.layers.n, 1);
	spec_done(&s);
	image_config_done(&c);
}

static void test_current_directory(void **state)
{
	struct fx *fx = *state;
	_free_ char *before = getcwd(NULL, 0);
	struct box_spec s;

	add_kit(fx, BASE);
	assert_int_equal(chdir(fx->work), 0);
	s = plan(fx);
	assert_int_equal(chdir(before), 0);
	assert_string_equal(s.workdir, fx->work);
	spec_done(&s);
}

static void test_names(void **state)
{
	static const struct {
		const char *dir, *name;
	} t[] = {
		{"a", "shell-a"},
		{"A__b..c", "shell-a-b-c"},
		{"---", "shell"},
		{"x-", "shell-x"},
		{"\xc3\xa9t\xc3\xa9", "shell-t"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			"shell-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaaa",
			"shell-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
	};
	struct fx *fx = *state;

	add_kit(fx, BASE);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_free_ char *dir = fs_join(fx->root, t[i].dir);
		struct box_spec s;

		assert_int_equal(mkdir(dir, 0755), 0);
		strv_done(&fx->req.mounts);
		strv_add(&fx->req.mounts, dir);
		s = plan(fx);
		assert_string_equal(s.name, t[i].name);
		assert_true(spec_name_valid(s.name));
		spec_done(&s);
	}
	fx->req.name = "mine";
	{
		struct box_spec s = plan(fx);

		assert_string_equal(s.name, "mine");
		spec_done(&s);
	}
	fx->req.name = "Mine!";
	refused(fx, "Mine!: not a sandbox name");
	fx->req.name = "";
	refused(fx, ": not a sandbox name");
}

static void test_mounts(void **state)
{
	struct fx *fx = *state;
	_free_ char *sub = fs_join(fx->work, "sub"), *ro = xasprintf("%s:ro", sub);
	_free_ char *link = fs_join(fx->root, "link"), *file = fs_join(fx->root, "file");
	_free_ char *none = fs_join(fx->root, "none");
	struct box_spec s;

	add_kit(fx, BASE);
	assert_int_equal(mkdir(sub, 0755), 0);
	assert_int_equal(symlink("My Project.v2", link), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, file, "", 0, 0644, NULL), 0);
	/* The first is where work starts, though the outer one is mounted first. */
	strv_add(&fx->req.mounts, ro);
	strv_add(&fx->req.mounts, link);
	s = plan(fx);
	assert_string_equal(s.workdir, sub);
	assert_int_equal(s.n_mounts, 2);
	assert_string_equal(s.mounts[0].guest_path, fx->work); /* the link is resolved */
	assert_string_equal(s.mounts[1].host_path, sub);
	assert_true(s.mounts[1].read_only);
	spec_done(&s);

	strv_add(&fx->req.mounts, fx->work);
	refused(fx, "%R/My Project.v2: given twice");
	strv_done(&fx->req.mounts);
	strv_add(&fx->req.mounts, none);
	refused(fx, "%R/none: no such directory");
	strv_done(&fx->req.mounts);
	strv_add(&fx->req.mounts, file);
	refused(fx, "%R/file: not a directory");
	strv_done(&fx->req.mounts);
	strv_add(&fx->req.mounts, "./nope");
	refused(fx, "./nope: no such directory");
	strv_done(&fx->req.mounts);
	strv_add(&fx->req.mounts, "");
	refused(fx, ": no such directory");
}

static void test_mounts_of_the_system(void **state)
{
	static const struct {
		const char *arg, *says;
	} t[] = {
		{"/", "/: cannot be shared, it would cover /: the whole root of the sandbox"},
		{"/etc", "/etc: cannot be shared, it would cover /etc: configuration of the "
			 "sandbox's own system"},
		{"/usr", "/usr: cannot be shared, it would cover /usr: part of the sandbox's own "
			 "system"},
		{"/usr/share", "/usr/share: cannot be shared, it would cover /usr/share: part of "
			       "the sandbox's own system"},
		{"/usr/bin/..", "/usr/bin/..: cannot be shared, it would cover /usr: part of the "
				"sandbox's own system"},
		{"/proc/self", NULL},
		{"/dev/shm:ro", "/dev/shm: cannot be shared, it would cover /dev/shm: devices of "
				"the sandbox"},
		{"/sys/kernel", "/sys/kernel: cannot be shared, it would cover /sys/kernel: the "
				"kernel of the sandbox"},
		{"/var/lib", "/var/lib: cannot be shared, it would cover /var/lib: part of the "
			     "sandbox's own system"},
		{"/home", "/home: cannot be shared, it would cover /home: the home directories of "
			  "the sandbox"},
		{"/tmp", "/tmp: cannot be shared, it would cover /tmp: temporary files of the "
			 "sandbox"},
	};
	struct fx *fx = *state;

	add_kit(fx, BASE);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct box_spec s = {0};

		strv_done(&fx->req.mounts);
		strv_add(&fx->req.mounts, t[i].arg);
		if (t[i].says)
			refused(fx, t[i].says);
		else
			assert_int_equal(plan_make(&fx->req, &s, &fx->err), -1);
		assert_string_equal(fx->err.hint, "name a directory further down");
	}
	/* Further down is fine. */
	strv_done(&fx->req.mounts);
	strv_add(&fx->req.mounts, "/usr/share/doc");
	{
		struct box_spec s = plan(fx);

		assert_string_equal(s.workdir, "/usr/share/doc");
		spec_done(&s);
	}
}

static void test_machine(void **state)
{
	struct settings set = {.engine = SPEC_ENGINE_KVM,
		.cpus = 4,
		.memory_bytes = 3 * GIB,
		.disk_bytes = 5 * GIB};
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, BASE);
	strv_add(&fx->req.mounts, fx->work);
	fx->req.settings = &set;
	s = plan(fx);
	assert_int_equal(s.engine, SPEC_ENGINE_KVM);
	assert_int_equal(s.cpus, 4);
	assert_true(s.memory_bytes == 3 * GIB);
	assert_true(s.disk_bytes == 5 * GIB);
	spec_done(&s);
	/* Flags win. */
	fx->req.engine = SPEC_ENGINE_QEMU;
	fx->req.cpus = 1;
	fx->req.memory_bytes = 1000 * MIB + 17;
	fx->req.disk_bytes = 1 * GIB;
	s = plan(fx);
	assert_int_equal(s.engine, SPEC_ENGINE_QEMU);
	assert_int_equal(s.cpus, 1);
	assert_true(s.memory_bytes == 1000 * MIB); /* whole MiB */
	assert_true(s.disk_bytes == 1 * GIB);
	spec_done(&s);

	fx->req.cpus = 9;
	refused(fx, "9 cpus: this machine has 8");
	fx->req.cpus = 0;
	fx->req.memory_bytes = 17 * GIB;
	refused(fx, "17408 MiB of memory: this machine has 16384 MiB");
	fx->req.memory_bytes = 100 * MIB;
	refused(fx, "100 MiB of memory: at least 256 MiB are needed");
	fx->req.memory_bytes = 0;
	fx->req.disk_bytes = 1 * MIB;
	refused(fx, "1 MiB of disk: 256 MiB to 16 TiB are possible");
}

static void test_kit_resources(void **state)
{
	struct settings set = {.cpus = 1, .memory_bytes = 1 * GIB};
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, "schemaVersion: \"2\"\nkind: sandbox\nname: big\n"
		    "sandbox: {image: base, resources: {cpu: 2.5, memory: 6g}}\n");
	strv_add(&fx->req.mounts, fx->work);
	fx->req.settings = &set;
	s = plan(fx);
	assert_int_equal(s.cpus, 3); /* rounded up, above the settings */
	assert_true(s.memory_bytes == 6 * GIB);
	assert_string_equal(s.entrypoint.v[0], "bash"); /* none given */
	assert_string_equal(s.entrypoint.v[1], "-l");
	spec_done(&s);
	/* A wish is cut to the machine. */
	fx->req.host_cpus = 2;
	fx->req.host_memory_bytes = 4 * GIB;
	s = plan(fx);
	assert_int_equal(s.cpus, 2);
	assert_true(s.memory_bytes == 4 * GIB);
	spec_done(&s);
}

static void test_small_machine(void **state)
{
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, BASE);
	strv_add(&fx->req.mounts, fx->work);
	fx->req.host_cpus = 1;
	fx->req.host_memory_bytes = 2 * GIB;
	s = plan(fx);
	assert_int_equal(s.cpus, 1);
	assert_true(s.memory_bytes == 1 * GIB);
	spec_done(&s);
}

static void test_rules(void **state)
{
	struct settings set = {0};
	struct fx *fx = *state;
	static const struct {
		bool allow;
		const char *target, *source;
	} want[] = {
		{true, "a.test", "kit shell"},
		{true, "b.test:80", "kit m"},
		{false, "a.test", "kit m"},
		{true, "s.test", "user"},
		{false, "d.test", "user"},
		{true, "f.test", "user --allow"},
	};
	struct box_spec s;

	/* The mixin comes first on the command line; the base leads all the same. */
	add_kit(fx,
		MIXIN("m") "permissions: {network: {allow: [\"b.test:80\"], deny: [a.test]}}\n");
	add_kit(fx, BASE "permissions: {network: {allow: [a.test]}}\n");
	strv_add(&fx->req.mounts, fx->work);
	strv_add(&set.allow, "s.test");
	strv_add(&set.deny, "d.test");
	strv_add(&fx->req.allow, "f.test");
	fx->req.settings = &set;
	s = plan(fx);
	assert_string_equal(s.kits.v[0], "shell");
	assert_string_equal(s.kits.v[1], "m");
	assert_int_equal(s.net.n_rules, ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(s.net.rules[i].allow, want[i].allow);
		assert_string_equal(s.net.rules[i].target, want[i].target);
		assert_string_equal(s.net.rules[i].source, want[i].source);
	}
	spec_done(&s);
	strv_add(&fx->req.allow, "not a host");
	assert_int_equal(plan_make(&fx->req, &s, &fx->err), -1);
	assert_int_equal(strncmp(fx->err.msg, "--allow not a host: ", 20), 0);
	settings_done(&set);
}

static void test_env(void **state)
{
	struct fx *fx = *state;
	static const char *const want[] = {"A=base", "B=mixin", "KEY=mine", "C=x=y", "HERE=value"};
	struct box_spec s;

	add_kit(fx, BASE "environment: {variables: {A: base, B: base, KEY: kit}}\n");
	add_kit(fx, MIXIN("m") "environment: {variables: {B: mixin}}\n"
			       "credentials: [{service: s, apiKey: {name: KEY}}]\n");
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	/* The placeholder wins over every kit … */
	assert_string_equal(s.env.v[2], "KEY=" PLAN_PLACEHOLDER);
	assert_int_equal(s.env.n, 3);
	spec_done(&s);
	/* … and the user over all. */
	setenv("HERE", "value", 1);
	unsetenv("GONE");
	strv_add(&fx->req.env, "KEY=mine");
	strv_add(&fx->req.env, "C=x=y");
	strv_add(&fx->req.env, "HERE");
	strv_add(&fx->req.env, "GONE");
	s = plan(fx);
	assert_int_equal(s.env.n, ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_string_equal(s.env.v[i], want[i]);
	spec_done(&s);
	strv_add(&fx->req.env, "9=x");
	refused(fx, "-e 9: not a variable name");
	strv_done(&fx->req.env);
	strv_add(&fx->req.env, "=x");
	refused(fx, "-e : not a variable name");
	strv_done(&fx->req.env);
	strv_add(&fx->req.env, "X=\xff");
	refused(fx, "-e X: the value is not UTF-8 text");
	strv_done(&fx->req.env);
	strv_add(&fx->req.args, "fine");
	strv_add(&fx->req.args, "\xff");
	refused(fx, "argument 2: not UTF-8 text");
}

static void test_resolves(void **state)
{
	struct spec_resolve mine[] = {{(char *)"a.test", (char *)"127.0.0.1:1"},
		{(char *)"b.test", (char *)"127.0.0.1:2"}};
	struct settings set = {.resolves = mine, .n_resolves = 2};
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, BASE);
	strv_add(&fx->req.mounts, fx->work);
	strv_add(&fx->req.resolves, "B.test=[::1]:9");
	fx->req.settings = &set;
	s = plan(fx);
	assert_int_equal(s.net.n_resolves, 2);
	assert_string_equal(s.net.resolves[0].address, "127.0.0.1:1");
	assert_string_equal(s.net.resolves[1].name, "b.test");
	assert_string_equal(s.net.resolves[1].address, "[::1]:9");
	spec_done(&s);
	strv_add(&fx->req.resolves, "c.test");
	refused(fx, "--resolve c.test: NAME=ADDRESS:PORT was expected");
	strv_done(&fx->req.resolves);
	strv_add(&fx->req.resolves, "c.test=1.2.3.4");
	refused(fx, "--resolve c.test=1.2.3.4: an address with port was expected, such as "
		    "127.0.0.1:8443");
}

static void test_cas(void **state)
{
	struct settings_ca mine[] = {{(char *)"**.corp.test", NULL}};
	struct settings set = {.cas = mine, .n_cas = 1};
	struct fx *fx = *state;
	_free_ char *path = fs_join(fx->root, "ca.pem");
	static const char text[] = "# ours\n-----BEGIN CERTIFICATE-----\nAAAA\n";
	struct box_spec s;
	struct err err;

	add_kit(fx, BASE);
	strv_add(&fx->req.mounts, fx->work);
	mine[0].file = path;
	fx->req.settings = &set;
	assert_int_equal(fs_write_file(AT_FDCWD, path, text, strlen(text), 0600, &err), 0);
	s = plan(fx);
	assert_int_equal(s.net.n_cas, 1);
	assert_string_equal(s.net.cas[0].target, "**.corp.test");
	assert_string_equal(s.net.cas[0].pem, text);
	spec_done(&s);
	mine[0].file = (char *)"~/ca.pem";
	setenv("HOME", fx->root, 1);
	s = plan(fx);
	assert_string_equal(s.net.cas[0].pem, text);
	spec_done(&s);
	assert_int_equal(fs_write_file(AT_FDCWD, path, "no", 2, 0600, &err), 0);
	refused(fx, "network.ca of the settings: ~/ca.pem: there is no certificate in it (PEM)");
}

static void test_steps(void **state)
{
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, BASE "setup: {install: [{command: one, description: d}],\n"
			 "  startup: [{command: [up], background: true}]}\n");
	add_kit(fx, MIXIN("m") "setup: {install: [{command: two, user: \"1000\"}, {command: "
			       "three}]}\n");
	strv_add(&fx->req.mounts, fx->work);
	strv_add(&fx->req.args, "-c");
	s = plan(fx);
	assert_int_equal(s.n_install, 3);
	assert_string_equal(s.install[0].argv.v[2], "one");
	assert_string_equal(s.install[0].description, "d");
	assert_string_equal(s.install[0].user, "0");
	assert_string_equal(s.install[1].kit, "m");
	assert_string_equal(s.install[1].user, "1000");
	assert_string_equal(s.install[1].description, "");
	assert_string_equal(s.install[2].argv.v[2], "three");
	assert_int_equal(s.n_startup, 1);
	assert_true(s.startup[0].background);
	assert_string_equal(s.startup[0].user, "1000");
	assert_string_equal(s.args.v[0], "-c");
	spec_done(&s);
}

static void test_files(void **state)
{
	struct fx *fx = *state;
	_free_ char *want = NULL;
	struct box_spec s;

	add_kit(fx,
		BASE "setup: {files: [{path: /etc/x, content: base},\n"
		     "  {path: /home/agent/y, content: \"${WORKDIR}, $WORKDIR ${WORKDIR}\"}]}\n");
	add_kit(fx, MIXIN("m") "setup: {files: [{path: /etc/x, content: mixin, mode: \"0600\",\n"
			       "  onlyIfMissing: true}]}\n");
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	assert_int_equal(s.n_files, 2);
	assert_string_equal(s.files[0].path, "/etc/x"); /* the later kit's */
	assert_string_equal(s.files[0].content, "mixin");
	assert_string_equal(s.files[0].kit, "m");
	assert_int_equal(s.files[0].mode, 0600);
	assert_true(s.files[0].only_if_missing);
	assert_true(s.files[0].as_root);
	want = xasprintf("%s, $WORKDIR %s", fx->work, fx->work);
	assert_string_equal(s.files[1].content, want);
	assert_false(s.files[1].as_root);
	spec_done(&s);
}

static void test_workdir_cannot_explode(void **state)
{
	struct fx *fx = *state;
	_buf_ struct buf text = {.max = 1 << 20};
	struct kit_errors errs = {0};

	add_kit(fx, BASE);
	buf_puts(&text, MIXIN("m") "setup:\n  files:\n    - path: /x\n      content: '");
	while (buf_room(&text) > 100)
		buf_puts(&text, "${WORKDIR}");
	buf_puts(&text, "'\n");
	assert_int_equal(kit_load_text((char *)buf_head(&text), buf_len(&text), "k",
				 NULL, &fx->kits[fx->req.n_kits++], &errs),
		0);
	strv_add(&fx->req.mounts, fx->work);
	refused(fx, "kit m: /x is larger than 4 MiB");
}

static void test_instructions(void **state)
{
	struct fx *fx = *state;
	struct box_spec s;

	add_kit(fx, BASE "agentInstructions: {filename: CLAUDE.md, content: \"Base.\\n\"}\n");
	add_kit(fx, MIXIN("quiet"));
	add_kit(fx, MIXIN("m") "displayName: Em\nagentInstructions: {content: \"Mixin.\\n\"}\n");
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	assert_int_equal(s.n_files, 2);
	assert_string_equal(s.files[0].path, "/home/agent/kits-memory/m.md");
	assert_string_equal(s.files[0].content, "Mixin.\n");
	assert_string_equal(s.files[1].path, "/home/agent/CLAUDE.md");
	assert_string_equal(s.files[1].content,
		"Base.\n\n<!-- kits -->\n## Kits\n\nRead these when they matter:\n\n"
		"- `/home/agent/kits-memory/m.md`: Em\n<!-- /kits -->\n");
	spec_done(&s);
}

static void test_trees(void **state)
{
	struct fx *fx = *state;
	_free_ char *ro = xasprintf("%s:ro", fx->work);
	struct box_spec s;

	add_kit(fx, BASE);
	add_kit(fx, MIXIN("m"));
	fx->kits[1].dir = xstrdup("/k");
	fx->kits[1].has_home = fx->kits[1].has_workspace = true;
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	assert_int_equal(s.n_home_trees, 1);
	assert_string_equal(s.home_trees[0].dir, "1-home");
	assert_string_equal(s.home_trees[0].dest, PLAN_HOME);
	assert_string_equal(s.home_trees[0].source, "/k/files/home");
	assert_string_equal(s.workspace_trees[0].dest, fx->work);
	assert_string_equal(s.workspace_trees[0].kit, "m");
	spec_done(&s);
	strv_done(&fx->req.mounts);
	strv_add(&fx->req.mounts, ro);
	refused(fx, "kit m: brings files for the workspace, but %R/My Project.v2 is read-only");
}

static void test_sets_are_checked(void **state)
{
	struct fx *fx = *state;

	refused(fx, "no kit given");
	add_kit(fx, MIXIN("m"));
	refused(fx, "kit m: a mixin, a sandbox kit is needed to run it on");
}

static void test_json_round_trip(void **state)
{
	struct fx *fx = *state;
	struct box_spec s, back;
	json_t *j, *again;

	add_kit(fx, BASE "permissions: {network: {allow: [a.test]}}\n"
			 "credentials: [{service: s, apiKey: {name: K, inject: [{domain: a.test,\n"
			 "  scheme: basic, username: u}]}}]\n");
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	j = spec_to_json(&s);
	assert_int_equal(spec_from_json(j, &back, &fx->err), 0);
	again = spec_to_json(&back);
	assert_true(json_equal(j, again));
	json_decref(j);
	json_decref(again);
	spec_done(&s);
	spec_done(&back);
}

static void expect_part(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in: %s", part, text);
}

/* Kinds of credentials arrive in the spec, survive JSON and are shown. */
static void test_credentials(void **state)
{
	struct fx *fx = *state;
	char out[4096] = "";
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct box_spec s, back;
	const struct spec_oauth *o;
	json_t *j;

	add_kit(fx, BASE "permissions: {network: {allow: [a.test, b.test, l.test]}}\n"
			 "credentials:\n- service: s\n  apiKey: {name: K, inject: [\n"
			 "    {domain: a.test, placeholder: sk-place-holder, inBody: true},\n"
			 "    {domain: b.test, query: key}, {domain: b.test, sign: aws},\n"
			 "    {domain: b.test, registry: true, username: u},\n"
			 "    {domain: b.test, clientCertificate: true}]}\n"
			 "  oauth: {tokenEndpoint: {host: l.test, path: /t}, sentinels: {accessToken: "
			 "acc-1,\n    refreshToken: ref-1}, responseFields: {scope: what},\n"
			 "    credentialFile: {path: ~/.f, structure: {a: '{{.AccessToken}}'}}}\n");
	strv_add(&fx->req.mounts, fx->work);
	s = plan(fx);
	plan_print(&s, f);
	fclose(f);
	j = spec_to_json(&s);
	spec_done(&s);
	assert_int_equal(spec_from_json(j, &back, &fx->err), 0);
	json_decref(j);
	assert_true(strv_has(&back.env, "K=sk-place-holder"));
	assert_int_equal(back.net.credentials[0].n_injects, 5);
	assert_int_equal(back.net.credentials[0].injects[0].kind, SPEC_INJECT_PLACEHOLDER);
	assert_true(back.net.credentials[0].injects[0].in_body);
	assert_string_equal(back.net.credentials[0].injects[1].parameter, "key");
	assert_string_equal(back.net.credentials[0].injects[3].username, "u");
	assert_int_equal(back.net.credentials[0].n_oauth, 1);
	o = back.net.credentials[0].oauth;
	assert_string_equal(o->file, "/home/agent/.f");
	assert_string_equal(o->scope_name, "what");
	assert_int_equal(o->resource_hosts.n, 2); /* where keys go */
	spec_done(&back);
	expect_part(out, "to a.test in place of sk-place-holder, in headers and bodies\n");
	expect_part(out, "to b.test in parameter key\n");
	expect_part(out, "to b.test as AWS signature\n");
	expect_part(out, "to b.test as registry login\n");
	expect_part(out, "to b.test as client certificate\n");
	expect_part(out, "OAuth tokens from l.test/t\n");
	expect_part(out, "OAuth placeholders in /home/agent/.f\n");
}

/* The kits ask for the ssh-agent, the user grants it; hosts are as known_hosts has them. */
static void test_ssh_agent(void **state)
{
	struct fx *fx = *state;
	struct box_spec s, back;
	json_t *j;

	add_kit(fx, BASE);
	add_kit(fx, MIXIN("a") "sshAgent: {keys: [work laptop], hosts: [Git.Example.com., "
			       "\"git.example.com:2222\", \"b.example:22\"]}\n");
	s = plan(fx);
	assert_int_equal(s.ssh_keys.n, 0);
	assert_int_equal(s.ssh_hosts.n, 0);
	for (size_t i = 0; i < s.env.n; i++)
		assert_null(strstr(s.env.v[i], "SSH_AUTH_SOCK"));
	spec_done(&s);
	fx->req.ssh_agent = true;
	s = plan(fx);
	assert_int_equal(s.ssh_keys.n, 1);
	assert_string_equal(s.ssh_keys.v[0], "work laptop");
	assert_int_equal(s.ssh_hosts.n, 3);
	assert_string_equal(s.ssh_hosts.v[0], "git.example.com");
	assert_string_equal(s.ssh_hosts.v[1], "[git.example.com]:2222");
	assert_string_equal(s.ssh_hosts.v[2], "b.example");
	assert_false(s.ssh_any_host);
	assert_true(strv_has(&s.env, "SSH_AUTH_SOCK=/run/hutch-ssh-agent.sock"));
	j = spec_to_json(&s);
	assert_int_equal(spec_from_json(j, &back, &fx->err), 0);
	assert_int_equal(back.ssh_hosts.n, 3);
	json_decref(j);
	spec_done(&back);
	spec_done(&s);
	add_kit(fx, MIXIN("b") "sshAgent: {keys: [\"SHA256:abc\"], unrestricted: true}\n");
	s = plan(fx);
	assert_int_equal(s.ssh_keys.n, 2);
	assert_true(s.ssh_any_host);
	spec_done(&s);
}

static void test_print(void **state)
{
	struct fx *fx = *state;
	_free_ char *want = NULL;
	char out[4096] = "";
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct box_spec s;

	add_kit(fx, BASE "permissions: {network: {allow: [a.test], deny: [b.test]}}\n");
	add_kit(fx, MIXIN("m") "environment: {variables: {A: \"1\\e[2J\\n2\"}}\n"
			       "permissions: {network: {allow: [a.test]}}\n"
			       "credentials: [{service: s, required: true, apiKey: {name: K,\n"
			       "  inject: [{domain: a.test, scheme: bearer}]}}]\n"
			       "setup: {install: [{command: \"a\\nb\\n\"}], startup: [{command: "
			       "[x, y],\n"
			       "  background: true}], files: [{path: /etc/f, content: x}]}\n");
	strv_add(&fx->req.mounts, fx->work);
	strv_add(&fx->req.resolves, "a.test=127.0.0.1:8443");
	fx->req.remove_on_exit = true;
	s = plan(fx);
	plan_print(&s, f);
	fclose(f);
	want = xasprintf("sandbox     shell-my-project-v2, removed when it ends\n"
			 "kits        shell\n"
			 "            m\n"
			 "machine     2 cpus\n"
			 "            4 GiB memory\n"
			 "            16 GiB disk, engine auto\n"
			 "image       base, kit shell\n"
			 "command     bash, kit shell\n"
			 "            bash -l (on a terminal)\n"
			 "directories %s, starts here\n"
			 "network     allow a.test                           kit shell\n"
			 "            deny  b.test                           kit shell\n"
			 "            allow a.test                           kit m\n"
			 "resolve     a.test -> 127.0.0.1:8443\n"
			 "credentials s as K, required, kit m\n"
			 "              to a.test in Authorization\n"
			 "environment A=1?[2J ..., kit m\n"
			 "            K=proxy-managed, kit m\n"
			 "install     kit m, user 0: a ...\n"
			 "start-up    kit m, user 1000, background: x y\n"
			 "files       /etc/f, mode 0644, kit m\n",
		fx->work);
	assert_string_equal(out, want);
	spec_done(&s);
}

static void test_print_nothing_allowed(void **state)
{
	struct fx *fx = *state;
	char out[4096] = "", name[300];
	_free_ char *dir = NULL;
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct box_spec s;

	add_kit(fx, BASE);
	memset(name, 'd', 240);
	name[240] = '\0';
	dir = fs_join(fx->root, name);
	assert_int_equal(mkdir(dir, 0755), 0);
	strv_add(&fx->req.mounts, dir);
	s = plan(fx);
	plan_print(&s, f);
	fclose(f);
	assert_non_null(strstr(out, "network     nothing is allowed\n"));
	assert_non_null(strstr(out, "ddd ..., starts here\n")); /* cut, not overrun */
	spec_done(&s);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_defaults),
		T(test_image_launch),
		T(test_image_env),
		T(test_current_directory),
		T(test_names),
		T(test_mounts),
		T(test_mounts_of_the_system),
		T(test_machine),
		T(test_kit_resources),
		T(test_small_machine),
		T(test_rules),
		T(test_env),
		T(test_resolves),
		T(test_cas),
		T(test_steps),
		T(test_files),
		T(test_workdir_cannot_explode),
		T(test_instructions),
		T(test_trees),
		T(test_sets_are_checked),
		T(test_json_round_trip),
		T(test_credentials),
		T(test_ssh_agent),
		T(test_print),
		T(test_print_nothing_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

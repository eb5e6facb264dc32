/* SPDX-License-Identifier: Apache-2.0 */
/* Kits from git repositories, by the git program.
 *
 * Everything in the repository and on the other side is hostile; the user's own configuration could
 * run programs on its behalf. So: no configuration, no hooks, no filters, no submodules, no working
 * tree, one protocol, exactly one commit, and what git makes of it (a tar) goes through
 * hutch-archive. Of files git reaches installed programs, what the resolver and TLS read, and its
 * new repository; with ssh it keeps them all, because ssh's configuration is the user's and may
 * name any program. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "remote/tools.h"

#define OUTPUT_MAX (1u << 20)
#define FILE_MAX   (512ULL << 20) /* of a pack, or the tar */

/* What of our environment git and ssh may see. */
static const char *const passed[] = {"PATH", "LANG", "SSH_AUTH_SOCK", "SSL_CERT_FILE",
	"SSL_CERT_DIR", "https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY",
	"all_proxy", "ALL_PROXY", "ASAN_OPTIONS"};

static void environment(struct strv *env)
{
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		if (getenv(passed[i]))
			strv_addf(env, "%s=%s", passed[i], getenv(passed[i]));
	if (getenv("SSL_CERT_FILE"))
		strv_addf(env, "GIT_SSL_CAINFO=%s", getenv("SSL_CERT_FILE"));
	strv_add(env, "HOME=/nonexistent");
	strv_add(env, "GIT_CONFIG_NOSYSTEM=1");
	strv_add(env, "GIT_CONFIG_GLOBAL=/dev/null");
	strv_add(env, "GIT_ATTR_NOSYSTEM=1");
	strv_add(env, "GIT_TERMINAL_PROMPT=0");
	strv_add(env, "GIT_ASKPASS=false");
	strv_add(env, "GIT_SSH_COMMAND=ssh -oBatchMode=yes -oPermitLocalCommand=no "
		      "-oClearAllForwardings=yes");
	strv_add(env, "GIT_NO_REPLACE_OBJECTS=1");
	strv_add(env, "LC_ALL=C");
}

static void arguments(struct strv *argv, const struct ref *r)
{
	static const char *const settings[] = {"protocol.allow=never", "core.hooksPath=/dev/null",
		"core.fsmonitor=false",
		"core.askPass=", "credential.helper=", "submodule.recurse=false",
		"fetch.recurseSubmodules=false", "transfer.fsckObjects=true", "gc.auto=0",
		"maintenance.auto=false", "http.lowSpeedLimit=100", "http.lowSpeedTime=60",
		"core.attributesFile=/dev/null", "fetch.writeCommitGraph=false"};

	strv_add(argv, "git");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		strv_add(argv, "-c");
		strv_add(argv, settings[i]);
	}
	strv_add(argv, "-c");
	strv_addf(argv, "protocol.%.*s.allow=always", (int)strcspn(r->url, ":"), r->url);
}

/* A child inherits the limit; ours is as before again. */
static int run_limited(const struct child_spec *spec, char **ret_out, struct err *err)
{
	struct rlimit old, now;
	int status;

	getrlimit(RLIMIT_FSIZE, &old);
	now = old;
	now.rlim_cur = MIN(old.rlim_max, (rlim_t)FILE_MAX);
	setrlimit(RLIMIT_FSIZE, &now);
	status = child_run(spec, ret_out, OUTPUT_MAX, err);
	setrlimit(RLIMIT_FSIZE, &old);
	return status;
}

static const char *const read_paths[] = {"/etc", "/run/systemd/resolve", "/run/NetworkManager",
	"/run/resolvconf", "/usr/share", "/usr/local/share", "/proc", "/dev/urandom"};
static const char *const run_paths[] = {"/usr", "/bin", "/lib", "/lib64"};

/* What git may reach; the strings are owned by @own. */
static size_t make_rules(
	const struct ref *r, bool writes, struct landlock_rule *rules, struct strv *own)
{
	_free_ char *program = path_find("git");
	const char *ca = getenv("SSL_CERT_FILE");
	size_t n = 0;

	if (strncmp(r->url, "ssh:", 4) == 0)
		return 0;
	strv_take(own, path_dir("/etc/resolv.conf"));
	strv_take(own, path_dir("/etc/hosts"));
	if (ca && *ca)
		strv_take(own, path_dir(ca));
	if (strncmp(r->url, "file://", 7) == 0)
		strv_add(own, r->url + 7);
	for (size_t i = 0; i < own->n; i++)
		rules[n++] = (struct landlock_rule){own->v[i], -1, LANDLOCK_LOOK};
	if (program)
		strv_take(own, path_dir(program));
	if (program)
		rules[n++] = (struct landlock_rule){
			own->v[own->n - 1], -1, LANDLOCK_LOOK | LANDLOCK_RUN};
	for (size_t i = 0; i < ARRAY_SIZE(read_paths); i++)
		rules[n++] = (struct landlock_rule){read_paths[i], -1, LANDLOCK_LOOK};
	for (size_t i = 0; i < ARRAY_SIZE(run_paths); i++)
		rules[n++] = (struct landlock_rule){run_paths[i], -1, LANDLOCK_LOOK | LANDLOCK_RUN};
	rules[n++] = (struct landlock_rule){"/dev/null", -1, LANDLOCK_LOOK | LANDLOCK_MODIFY};
	if (writes) /* opened when it is there */
		rules[n++] = (struct landlock_rule){".", -1, LANDLOCK_LOOK | LANDLOCK_MODIFY};
	return n;
}

/* git @words… in the directory @cwd, where it may write if @writes. *ret_out (owned) may be NULL.
 */
static int git(const struct ref *r, int cwd, bool writes, char *const *words, char **ret_out,
	struct err *err)
{
	struct landlock_rule rules[ARRAY_SIZE(read_paths) + ARRAY_SIZE(run_paths) + 8];
	struct strv argv = {0}, env = {0}, own = {0};
	size_t n_rules = make_rules(r, writes, rules, &own);
	_free_ char *out = NULL;
	char safe[300];
	const char *why;
	int status;

	arguments(&argv, r);
	for (; *words; words++)
		strv_add(&argv, *words);
	argv.v = xrealloc(argv.v, argv.n + 1, sizeof(*argv.v));
	argv.v[argv.n] = NULL;
	environment(&env);
	env.v = xrealloc(env.v, env.n + 1, sizeof(*env.v));
	env.v[env.n] = NULL;
	status = run_limited(&(struct child_spec){.path = "git",
				     .argv = argv.v,
				     .envp = env.v,
				     .in = CHILD_NULL,
				     .cwd = cwd,
				     .jail = JAIL_NEWPRIVS | JAIL_CAPS,
				     .rules = rules,
				     .n_rules = n_rules,
				     .tcp = true},
		&out, err);
	strv_done(&own);
	strv_done(&argv);
	strv_done(&env);
	if (status < 0) {
		if (err && err->errnum == ENOENT) {
			err_set(err, ERR_ENV, "git is not installed");
			err_hint(err, "apt install git");
		}
		return -1;
	}
	if (status != 0) {
		why = strstr(out, "fatal: ");
		why = why ? why + 7 : out;
		return err_set(err, ERR_USER, "%s: git: %s", r->source,
			log_safe(safe, sizeof(safe), why, strcspn(why, "\n")));
	}
	if (ret_out)
		*ret_out = steal_ptr(&out);
	return 0;
}

static bool is_commit(const char *s)
{
	return strspn(s, "0123456789abcdef") == 40 && (!s[40] || strchr(" \t\n", s[40]));
}

/* The line of ls-remote for exactly @name. */
static const char *find_line(const char *out, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = out; line && *line; line = strchr(line, '\n') + 1) {
		if (is_commit(line) && line[40] == '\t' && strncmp(line + 41, name, len) == 0 &&
			(line[41 + len] == '\n' || !line[41 + len]))
			return line;
		if (!strchr(line, '\n'))
			break;
	}
	return NULL;
}

char *git_resolve(const struct ref *r, struct err *err)
{
	const char *name = r->name ? r->name : "HEAD";
	/* A tag that is an object of its own, a tag, a branch. */
	_free_ char *peeled = xasprintf("refs/tags/%s^{}", name),
		    *tag = xasprintf("refs/tags/%s", name);
	_free_ char *branch = xasprintf("refs/heads/%s", name), *out = NULL;
	const char *const forms[] = {peeled, tag, branch, name};
	_close_ int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *line = NULL;

	/* Not in a directory whose repository has a configuration. */
	if (git(r, top, false, ARGV("ls-remote", "--", r->url, name, peeled), &out, err) < 0)
		return NULL;
	for (size_t i = 0; !line && i < ARRAY_SIZE(forms); i++)
		line = find_line(out, forms[i]);
	if (!line) {
		err_set(err, ERR_USER, "%s: no branch or tag %s", r->source, name);
		return NULL;
	}
	return xstrndup(line, 40);
}

/* Whether what was fetched is the commit that was asked for. */
static int check_commit(const struct ref *r, int repo, struct err *err)
{
	_free_ char *what = xasprintf("%s^{commit}", r->pin), *out = NULL;

	if (git(r, repo, true, ARGV("rev-parse", "--verify", "--quiet", "--end-of-options", what),
		    &out, err) < 0 ||
		strncmp(out, r->pin, 40) != 0)
		return err_set(err, ERR_USER, "%s: no commit %s", r->source, r->pin);
	return 0;
}

static int fetch_commit(const struct ref *r, int repo, struct err *err)
{
	if (git(r, repo, true,
		    ARGV("fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head",
			    "--no-recurse-submodules", "--no-auto-maintenance", "--", r->url,
			    r->pin),
		    NULL, err) < 0)
		return -1;
	return check_commit(r, repo, err);
}

int git_fetch(const struct ref *r, const struct stage *s, struct err *err)
{
	_free_ char *tree = xasprintf("%s:%s", r->pin, r->dir);
	_close_ int repo = -1, tar = -1, kit = -1;

	if (mkdirat(s->fd, "repo", 0700) < 0 || mkdirat(s->fd, "kit", 0700) < 0)
		return err_errno(err, "%s", s->path);
	repo = openat(s->fd, "repo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kit = openat(s->fd, "kit", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (repo < 0 || kit < 0)
		return err_errno(err, "%s", s->path);
	if (git(r, repo, true, ARGV("init", "--quiet", "--bare", "--template=", "."), NULL, err) <
			0 ||
		fetch_commit(r, repo, err) < 0)
		return -1;
	if (git(r, repo, true, ARGV("archive", "--format=tar", "--output=kit.tar", tree), NULL,
		    err) < 0)
		return *r->dir ? err_set(err, ERR_USER, "%s: no directory %s in commit %s",
					 r->source, r->dir, r->pin)
			       : -1;
	tar = openat(repo, "kit.tar", O_RDONLY | O_CLOEXEC);
	if (tar < 0)
		return err_errno(err, "kit.tar");
	return tool_extract("tar", tar, kit, err) < 0 ? err_wrap(err, "%s", r->source) : 0;
}

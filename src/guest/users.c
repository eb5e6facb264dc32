/* SPDX-License-Identifier: Apache-2.0 */
/* Users of the image, from its passwd and group files. */
#include "guest/init.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DB_MAX (1u << 20)

/* Cut the next line off *@at into at most @max fields at ':'; returns their number, 0 at the end.
 */
static size_t next_entry(char **at, char **fields, size_t max)
{
	while (**at) {
		char *line = *at, *end = line + strcspn(line, "\n");
		size_t n = 0;

		*at = *end ? end + 1 : end;
		*end = '\0';
		for (char *f = line; f && n < max; n++) {
			fields[n] = f;
			f = strchr(f, ':');
			if (f)
				*f++ = '\0';
		}
		if (n > 1 && fields[0][0])
			return n;
	}
	return 0;
}

/* A decimal id. (uid_t)-1 means "no change" to the kernel and is nobody's. */
static bool parse_id(const char *s, uint32_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
		if (v >= UINT32_MAX)
			return false;
	}
	*ret = (uint32_t)v;
	return true;
}

static bool member_of(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; *at;) {
		size_t n = strcspn(at, ",");

		if (n == len && memcmp(at, name, n) == 0)
			return true;
		at += n;
		at += *at == ',';
	}
	return false;
}

static void add_group(struct user *u, gid_t gid)
{
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return;
	if (u->n_groups < ARRAY_SIZE(u->groups))
		u->groups[u->n_groups++] = gid;
}

static void find_groups(const char *root, struct user *u)
{
	_free_ char *path = xasprintf("%s/etc/group", root);
	char *f[4], *at;
	uint32_t gid;
	size_t n;
	_buf_ struct buf db;

	add_group(u, u->gid);
	buf_init(&db, DB_MAX);
	if (!u->name[0] || file_read(path, &db, NULL) < 0)
		return;
	at = buf_cstr(&db);
	while ((n = next_entry(&at, f, ARRAY_SIZE(f))))
		if (n == 4 && parse_id(f[2], &gid) && member_of(f[3], u->name))
			add_group(u, gid);
}

int user_find(const char *root, const char *name, struct user *ret, struct err *err)
{
	_free_ char *path = xasprintf("%s/etc/passwd", root);
	uint32_t want = 0, uid, gid;
	bool numeric;
	char *f[7], *at;
	size_t n;
	_buf_ struct buf db;

	if (!name[0])
		name = AGENT_USER;
	numeric = parse_id(name, &want);
	buf_init(&db, DB_MAX);
	if (file_read(path, &db, err) < 0 && !numeric)
		return -1;
	at = buf_cstr(&db);
	while ((n = next_entry(&at, f, ARRAY_SIZE(f)))) {
		if (n < 7 || !parse_id(f[2], &uid) || !parse_id(f[3], &gid))
			continue;
		if (numeric ? uid != want : strcmp(f[0], name) != 0)
			continue;
		*ret = (struct user){.uid = uid, .gid = gid, .name = xstrdup(f[0])};
		ret->home = xstrdup(f[5][0] == '/' ? f[5] : "/");
		ret->shell = xstrdup(f[6][0] == '/' ? f[6] : "/bin/sh");
		find_groups(root, ret);
		return 0;
	}
	if (!numeric) {
		errno = EINVAL; /* not ENOENT: that means the command was not found */
		err_set(err, ERR_USER, "no user \"%.64s\" in the sandbox", name);
		if (err)
			err->errnum = EINVAL;
		return -1;
	}
	*ret = (struct user){.uid = want, .gid = want, .name = xstrdup("")};
	ret->home = xstrdup("/");
	ret->shell = xstrdup("/bin/sh");
	find_groups(root, ret);
	return 0;
}

void user_done(struct user *u)
{
	free(u->name);
	free(u->home);
	free(u->shell);
	*u = (struct user){0};
}

static bool has_entry(const char *db, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = db; *at; at += *at == '\n') {
		if (strncmp(at, name, len) == 0 && at[len] == ':')
			return true;
		at += strcspn(at, "\n");
	}
	return false;
}

/* The lines of @db that are not about @name. */
static void put_others(struct buf *to, const char *db, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = db; *at;) {
		size_t n = strcspn(at, "\n");

		if (n && !(strncmp(at, name, len) == 0 && at[len] == ':')) {
			buf_put(to, at, n);
			buf_puts(to, "\n");
		}
		at += n + (at[n] == '\n');
	}
}

/* Put @line into the file after its first line (root), in place of what it says of AGENT_USER, so that
 * AGENT_UID means the agent even where the image has another user of that number. An image without root
 * in it gets @root_line first. @mode is kept from the file when it exists, and so is its group. */
static int insert_entry(const char *root, const char *file, const char *root_line, const char *line,
	mode_t mode, struct err *err)
{
	_free_ char *path = xasprintf("%s/etc/%s", root, file);
	struct stat st;
	gid_t gid = 0;
	size_t first;
	_buf_ struct buf db, others, made;

	buf_init(&db, DB_MAX);
	buf_init(&others, DB_MAX + 4096);
	buf_init(&made, DB_MAX + 8192);
	if (stat(path, &st) == 0) {
		mode = st.st_mode & 07777;
		gid = st.st_gid;
		if (file_read(path, &db, err) < 0)
			return -1;
	}
	if (!has_entry(buf_cstr(&db), "root"))
		buf_puts(&others, root_line);
	put_others(&others, buf_cstr(&db), AGENT_USER);
	first = strcspn(buf_cstr(&others), "\n");
	first += buf_len(&others) > first;
	buf_put(&made, buf_head(&others), first);
	buf_puts(&made, line);
	buf_put(&made, buf_head(&others) + first, buf_len(&others) - first);
	if (made.failed || others.failed)
		return err_set(err, ERR_ENV, "/etc/%s: too large", file);
	if (file_put(path, buf_head(&made), buf_len(&made), mode, err) < 0)
		return -1;
	if (gid && lchown(path, (uid_t)-1, gid) < 0)
		return err_errno(err, "%s", path);
	return 0;
}

static int make_homes(const char *root, struct err *err)
{
	_free_ char *home = xasprintf("%s" AGENT_HOME, root), *roots = xasprintf("%s/root", root);

	if (dirs_make_parent(home, 0, 0, err) < 0 || dirs_make(home, AGENT_UID, AGENT_UID, err) < 0)
		return -1;
	/* It may have been somebody else's. */
	if (lchown(home, AGENT_UID, AGENT_UID) < 0 && errno != EPERM)
		return err_errno(err, "%s", home);
	if (mkdir(roots, 0700) < 0 && errno != EEXIST)
		return err_errno(err, "%s", roots);
	return 0;
}

/* The agent as everything else expects it: by number, and with its home. */
static bool has_agent(const char *root)
{
	struct user u;
	bool good;

	if (user_find(root, AGENT_USER, &u, NULL) < 0)
		return false;
	good = u.uid == AGENT_UID && strcmp(u.home, AGENT_HOME) == 0;
	user_done(&u);
	return good;
}

int users_ensure_agent(const char *root, struct err *err)
{
	_free_ char *bash = xasprintf("%s/bin/bash", root), *etc = xasprintf("%s/etc", root);
	_free_ char *sudoers = xasprintf("%s/etc/sudoers.d/hutch-agent", root);
	_free_ char *shadow = xasprintf("%s/etc/shadow", root);
	_free_ char *group = xasprintf(AGENT_USER ":x:%d:\n", AGENT_UID);
	_free_ char *entry = NULL;

	if (has_agent(root))
		return 0;
	entry = xasprintf(AGENT_USER ":x:%d:%d::" AGENT_HOME ":%s\n", AGENT_UID, AGENT_UID,
		access(bash, X_OK) == 0 ? "/bin/bash" : "/bin/sh");
	if (dirs_make(etc, 0, 0, err) < 0 ||
		insert_entry(root, "passwd", "root:x:0:0:root:/root:/bin/sh\n", entry, 0644, err) < 0 ||
		insert_entry(root, "group", "root:x:0:\n", group, 0644, err) < 0 ||
		make_homes(root, err) < 0)
		return -1;
	if (access(shadow, F_OK) == 0 && insert_entry(root, "shadow", "root:*:19000:0:99999:7:::\n",
						 AGENT_USER ":*:19000:0:99999:7:::\n", 0640, err) < 0)
		return -1;
	/* Without the directory there is no sudo in the image. */
	if (file_put_text(sudoers, AGENT_USER " ALL=(ALL:ALL) NOPASSWD:ALL\n", 0440, NULL) < 0 &&
		errno != ENOENT && errno != ENOTDIR)
		return err_errno(err, "%s", sudoers);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up authority. */
#include "base/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

static int write_proc(const char *path, const char *text)
{
	_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	return fd_write_all(fd, text, strlen(text));
}

int jail_map_self(unsigned uid, unsigned gid)
{
	char line[64];

	if (write_proc("/proc/self/setgroups", "deny") < 0 && errno != ENOENT)
		return -1;
	snprintf(line, sizeof(line), "%u %u 1", uid, uid);
	if (write_proc("/proc/self/uid_map", line) < 0)
		return -1;
	snprintf(line, sizeof(line), "%u %u 1", gid, gid);
	return write_proc("/proc/self/gid_map", line);
}

/* What is mounted at the path of @rule, and below, to be put elsewhere; -1 with errno. Read-only, unless
 * the rule has it otherwise, where the kernel can do that (5.12); a socket can be connected to all the
 * same. */
static int copy_mounts(const struct landlock_rule *rule)
{
	const bool writable = rule->access & LANDLOCK_MODIFY;
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NOSUID | (writable ? 0 : MOUNT_ATTR_RDONLY)};
	int tree = open_tree(
		AT_FDCWD, rule->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree >= 0)
		(void)mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr));
	return tree;
}

/* Put @tree (taken) at @path below the working directory. What that lies in may be there already. */
static int put_mounts(int tree_, const char *path)
{
	_close_ int tree = tree_;
	char at[PATH_MAX];
	struct stat st;
	size_t len = strlen(path);

	if (path[0] != '/' || len >= sizeof(at) || fstat(tree, &st) < 0)
		return -1;
	for (size_t i = 1; i <= len; i++) {
		bool last = i == len;
		int r;

		if (!last && path[i] != '/')
			continue;
		memcpy(at, path + 1, i - 1);
		at[i - 1] = '\0';
		r = last && !S_ISDIR(st.st_mode) ? mknod(at, S_IFREG | 0400, 0) : mkdir(at, 0700);
		if (r < 0 && errno != EEXIST)
			return -1;
	}
	return move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH);
}

/* A read-only root in which only the paths of @rules are. The old root is detached; open descriptors
 * keep working. */
static int make_root(const struct landlock_rule *rules, size_t n)
{
	int trees[JAIL_PATHS_MAX];

	if (n > ARRAY_SIZE(trees) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	/* Before the new root covers any of them. */
	for (size_t i = 0; i < n; i++) {
		trees[i] = copy_mounts(&rules[i]);
		if (trees[i] < 0 && errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			return -1;
	}
	if (mount("none", "/proc", "tmpfs", MS_NODEV | MS_NOEXEC | MS_NOSUID, "size=4k,mode=555") <
			0 ||
		chdir("/proc") < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (trees[i] >= 0 && put_mounts(trees[i], rules[i].path) < 0)
			return -1;
	if (syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -1;
	return mount(NULL, "/", NULL,
		MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOEXEC | MS_NOSUID, NULL);
}

static int drop_caps(void)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	for (int cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			break;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return (int)syscall(SYS_capset, &hdr, none);
}

int jail_enter(unsigned want, unsigned *ret_missing, struct err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	unsigned missing = 0;

	if (want & JAIL_USERNS) {
		if (unshare(CLONE_NEWUSER) < 0)
			missing |= JAIL_USERNS;
		else if (jail_map_self(uid, gid) < 0)
			return err_errno(err, "user namespace map");
	}
	if ((want & JAIL_NET) && unshare(CLONE_NEWNET) < 0)
		missing |= JAIL_NET;
	if ((want & JAIL_IPC) && unshare(CLONE_NEWIPC) < 0)
		missing |= JAIL_IPC;
	if (want & JAIL_ROOT) {
		if (unshare(CLONE_NEWNS) < 0)
			missing |= JAIL_ROOT;
		else if (make_root(NULL, 0) < 0)
			missing |= JAIL_ROOT;
	}
	if ((want & JAIL_NEWPRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "no_new_privs");
	if ((want & JAIL_CAPS) && drop_caps() < 0)
		return err_errno(err, "drop capabilities");
	*ret_missing = missing;
	return 0;
}

int jail_view(const struct landlock_rule *rules, size_t n)
{
	return unshare(CLONE_NEWNS) < 0 ? -1 : make_root(rules, n);
}

void jail_limit(int resource, unsigned long long max)
{
	struct rlimit lim;

	if (getrlimit((__rlimit_resource_t)resource, &lim) < 0)
		return;
	lim.rlim_max = MIN(lim.rlim_max, (rlim_t)max);
	lim.rlim_cur = MIN(lim.rlim_cur, lim.rlim_max);
	setrlimit((__rlimit_resource_t)resource, &lim);
}

int jail_seal(const struct jail_seal *s, unsigned *missing, struct err *err)
{
	int r = landlock_enter(s->rules, s->n_rules, s->more, err);

	if (r < 0)
		return -1;
	if (r == 0)
		*missing |= JAIL_LANDLOCK;
	r = seccomp_enter(s->filter, err);
	if (r < 0)
		return -1;
	if (r == 0)
		*missing |= JAIL_SECCOMP;
	return 0;
}

/* In a child: what is refused. */
static unsigned try_all(void)
{
	static const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	static const struct seccomp_filter nothing = {"none", &allow, 1};
	const struct jail_seal seal = {.filter = &nothing};
	unsigned missing = 0;

	if (jail_enter(JAIL_REFUSABLE | JAIL_CAPS | JAIL_NEWPRIVS, &missing, NULL) < 0)
		return JAIL_USERNS;
	if (jail_seal(&seal, &missing, NULL) < 0)
		missing |= JAIL_LANDLOCK | JAIL_SECCOMP;
	return missing;
}

unsigned jail_refused(void)
{
	_close_ int rd = -1, wr = -1;
	unsigned missing = 0;
	int pipefd[2];
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return JAIL_REFUSABLE;
	rd = pipefd[0];
	wr = pipefd[1];
	/* A process namespace begins with a child's birth. */
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	else
		missing |= JAIL_PID;
	pid = fork();
	if (pid == 0) {
		missing |= try_all();
		_exit(fd_write_all(wr, &missing, sizeof(missing)) < 0);
	}
	close_and_reset(&wr);
	if (pid < 0 || fd_read_all(rd, &missing, sizeof(missing)) < 0)
		missing = JAIL_REFUSABLE;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return missing;
}

const char *jail_layers_text(unsigned mask, char *to, unsigned size)
{
	static const char *const names[] = {
		"user-namespace", "network", "ipc", "root", "capabilities", "no-new-privs",
		"process-namespace", "landlock", "seccomp"};
	size_t n = 0;

	to[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (mask & (1u << i))
			n += (size_t)snprintf(to + MIN(n, (size_t)size - 1),
				size - MIN(n, (size_t)size - 1), "%s%s", n ? " " : "", names[i]);
	return to;
}

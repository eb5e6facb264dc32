/* SPDX-License-Identifier: Apache-2.0 */
/* The writable layer of the root, of which the disk can hold several.
 *
 * "hutch recreate" gives a sandbox a new one, and keeps its volumes: the host names a generation,
 * and the layer of that generation is used. The one before stays until a machine has been set up on
 * the new one, so that the host can go back; what is no longer wanted goes at the start after.
 *
 *     upper work docker      generation 0
 *     gN/upper gN/work ...   generation N
 *     store                  volumes, of all generations
 */
#include "guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"

static const char *const parts[] = {"upper", "work", "docker"};

char *layer_make(const char *disk, const struct layer *l, struct err *err)
{
	static const mode_t modes[ARRAY_SIZE(parts)] = {0755, 0700, 0710};
	_free_ char *dir =
		l->generation ? xasprintf("%s/g%lu", disk, l->generation) : xstrdup(disk);

	/* Half of an earlier attempt would be taken for a layer. */
	if (l->generation && l->fresh && fs_remove_tree(AT_FDCWD, dir, err) < 0)
		return NULL;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		err_errno(err, "writable disk: %s", dir);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		_free_ char *path = fs_join(dir, parts[i]);

		if (mkdir(path, modes[i]) < 0 && errno != EEXIST) {
			err_errno(err, "writable disk: %s", parts[i]);
			return NULL;
		}
	}
	return steal_ptr(&dir);
}

bool layer_is_stale(const char *name, const struct layer *l)
{
	char *end;
	unsigned long n;

	for (size_t i = 0; l->generation && i < ARRAY_SIZE(parts); i++)
		if (strcmp(name, parts[i]) == 0)
			return true;
	if (name[0] != 'g' || name[1] < '1' || name[1] > '9')
		return false;
	n = strtoul(name + 1, &end, 10);
	return !*end && n != l->generation;
}

static void find_stale(int disk, const struct layer *l, struct strv *ret)
{
	int fd = openat(disk, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;

	while (dir && (d = readdir(dir)) != NULL)
		if (layer_is_stale(d->d_name, l))
			strv_add(ret, d->d_name);
	if (dir)
		closedir(dir);
}

void layer_sweep(int disk, const struct layer *l)
{
	struct strv names = {0};
	sigset_t none;

	if (!l->fresh)
		find_stale(disk, l, &names);
	if (!names.n || fork() != 0) {
		strv_done(&names);
		return;
	}
	/* It ends like any program when the machine does, and goes on at the next start. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (dup2(disk, 3) == 3)
		syscall(SYS_close_range, 4u, ~0u, 0u);
	setpriority(PRIO_PROCESS, 0, 19);
	for (size_t i = 0; i < names.n; i++)
		fs_remove_tree(3, names.v[i], NULL);
	_exit(0);
}

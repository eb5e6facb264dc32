/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules from the initramfs, one after the other: inserting them from two processes at a
 * time takes several times as long under emulation, because each insertion changes page
 * permissions, for which all virtual CPUs have to stop. Beside other work it costs nothing: the
 * late ones are inserted by a child, while PID 1 mounts. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define LIST_MAX (64u << 10)

/* What not every machine has, by the kernel parameter that says so: with @needed it is inserted only
 * when that is there, else only when it is not. */
static const struct {
	const char *module, *word;
	bool needed;
} conditions[] = {
	{"/virtio_pci", "pci=off", false},
	{"/loop.", "hutch.loop", true}, /* volumes with a size */
	{"/virtio_balloon.", "hutch.few", false},
	{"/virtio-rng.", "hutch.few", false},
	{"/virtio_console.", "hutch.few", false},
};

static bool is_of_use(const char *path, const char *cmdline)
{
	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++)
		if (strstr(path, conditions[i].module) &&
			cmdline_has(cmdline, conditions[i].word) != conditions[i].needed)
			return false;
	return true;
}

/* The next line of *@at, NUL-terminated in place, without its phase word; NULL at the end.
 * *ret_late (or NULL): the root does not need it. */
static char *next_module(char **at, bool *ret_late)
{
	while (**at) {
		char *line = *at, *end = line + strcspn(line, "\n");

		*at = *end ? end + 1 : end;
		*end = '\0';
		if (ret_late)
			*ret_late = strncmp(line, "late ", 5) == 0;
		line += strcspn(line, "/");
		if (*line)
			return line;
	}
	return NULL;
}

static void load(const char *path)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && (syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST))
		return;
	say("module %s: %s", path, strerror(errno));
}

void modules_load(bool late, const char *cmdline)
{
	bool is_late;
	_buf_ struct buf list;
	char *at, *path;

	buf_init(&list, LIST_MAX);
	if (file_read(MODULE_LIST, &list, NULL) < 0)
		return; /* everything is built in */
	at = buf_cstr(&list);
	while ((path = next_module(&at, &is_late)))
		if (is_late == late && is_of_use(path, cmdline))
			load(path);
}

void modules_forget(int oldroot)
{
	_buf_ struct buf list;
	_close_ int fd = openat(oldroot, &MODULE_LIST[1], O_RDONLY | O_CLOEXEC);
	char *at, *path;

	/* By name and never by walking the tree: the writable disk is mounted inside it. */
	unlinkat(oldroot, "init", 0);
	buf_init(&list, LIST_MAX);
	if (fd < 0)
		return;
	while (buf_room(&list) && buf_read(&list, fd, LIST_MAX) > 0)
		;
	at = buf_cstr(&list);
	while ((path = next_module(&at, NULL)))
		unlinkat(oldroot, path + 1, 0);
	unlinkat(oldroot, &MODULE_LIST[1], 0);
}

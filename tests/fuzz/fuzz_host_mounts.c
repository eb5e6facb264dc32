/* SPDX-License-Identifier: Apache-2.0 */
/* Names below STATE/host-mounts, read back into paths: what is on disk may have any name. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kit/host_mounts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* A name that is taken is the only one of its path, and could be made. */
static void check_name(const char *name)
{
	_free_ char *path = host_mount_decode(name), *again = NULL;

	if (!path)
		return;
	must(path[0] == '/' && path[1]);
	must(name[0] != '.' && !strchr(name, '/') && strlen(name) <= NAME_MAX);
	again = host_mount_encode(path);
	must(again && strcmp(again, name) == 0);
}

static void check_path(const char *path)
{
	_free_ char *name = host_mount_encode(path), *again = NULL;

	if (!name)
		return;
	must(*name && name[0] != '.' && !strchr(name, '/') && strlen(name) <= NAME_MAX);
	again = host_mount_decode(name);
	must(again && strcmp(again, path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = xstrndup((const char *)data, size);
	_free_ char *path = xasprintf("/%s", text);

	check_name(text);
	check_path(path);
	return 0;
}

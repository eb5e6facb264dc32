/* SPDX-License-Identifier: Apache-2.0 */
/* Directories that all sandboxes with one kit share: where they lie on the host. */
#pragma once

#include "kit/kit.h"

/* All of them are at STATE/host-mounts/KIT/PATH: the name of a kit and a digest, and the path in
 * the sandbox as one component. */
#define HOST_MOUNTS_DIR "host-mounts"

/* KIT of @k, known by the repository that it is from (@k->source), or by its directory here; not by
 * its name or version, which others may take. Owned. */
char *host_mount_kit(const struct kit *k);
/* PATH of an absolute path; owned. NULL: too long for a name. */
char *host_mount_encode(const char *path);
/* And back; owned. NULL: no path becomes this. */
char *host_mount_decode(const char *name);

/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox boots from: kernel packs, root images, disks.
 *
 * $XDG_DATA_HOME/hutch/
 *     kernels/<id>/       kernel, config, modules, release; <id> is a content hash
 *     kernels/small       symbolic link to the pack that tools/build-kernel made
 *     kernels/default     symbolic link to the pack of the distribution's kernel
 *     images/<sha256>.img root images, read-only, content-addressed
 *     images/<sha256>.ca  the CA bundle inside that image
 *     images/<ref>.ref    "base.ref": the hash that a reference means today
 *     images/<key>.1.oci  which of them was made of which images from registries (image/records.h)
 *     blobs/<sha256>      manifests, configurations and layers of these
 *     images/disk-<bytes>.ext4  an empty formatted disk, copied sparsely for each sandbox
 * Everything appears by write-to-temporary, fsync, rename. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "oci/config.h"

struct kernel_pack {
	char *id;      /* shown by `hutch image ls` and doctor */
	char *kernel;  /* file for qemu's -kernel */
	char *initrd;  /* generated initramfs with the installed hutch-init in it */
	char *release; /* "6.1.0-…-cloud-amd64" */
	char *modules; /* directory with all its modules, for the guest's modprobe; NULL: there are none */
	bool paravirtual; /* built for KVM hosts without hardware virtualization (CONFIG_PVM_GUEST) */
};
void kernel_pack_done(struct kernel_pack *p);

/* The pack to boot: the one that HUTCH_KERNEL names (a pack directory or a kernel file), else the
 * small one when there is one, else the default. The initramfs is made (or made anew when hutch-init
 * changed). ERR_ENV with the remedy when there is none, or when a file does not match its hash. */
int image_kernel(struct kernel_pack *ret, struct err *err);

/* Progress of a long job: one line, rewritten on a terminal. @percent is -1 when unknown. */
typedef void image_progress_fn(void *arg, const char *what, int percent);

/* Whether @ref is Hutch's own image. */
bool image_is_base(const char *ref);
/* What @ref means: "base", or a reference by Docker's rules (oci/ref.h). Of an image in a registry the
 * manifest and the configuration are fetched, no layer; what is pinned and there needs no network.
 * *ret_pinned is owned: "oci://HOST/NAME@sha256:…", or "base" (which image_root pins). *ret is empty for
 * "base", and to be released on success. */
int image_resolve(const char *ref, char **ret_pinned, struct image_config *ret, struct err *err);

/* The root image of @ref with the layers of the images @layers (pinned; may be NULL) on top: owned path
 * and owned pinned reference ("base@<sha256>" for Hutch's own). It is made when it is not there: layers
 * are fetched and merged, with progress. */
int image_root(const char *ref, const struct strv *layers, image_progress_fn *progress, void *arg,
	char **ret_path, char **ret_pinned, struct err *err);
/* The same for what is pinned or "base", when it is there: no network, nothing is made. */
int image_find(const char *ref, const struct strv *layers, char **ret_path, char **ret_pinned,
	struct err *err);

/* A sandbox is being made: until the descriptor is closed no image is removed. */
int image_hold(struct err *err);

/* The image from a registry that @ref says: a reference that was pulled, or what its digest or the digits
 * of its digest begin with. *ret_pin is owned, and so is *ret_tag: NULL when @ref is no tag. */
int image_known(const char *ref, char **ret_pin, char **ret_tag, struct err *err);
/* Forget the tag @tag (or NULL) of the image @pin, and with its last tag the image: its root images, and
 * the blobs that no other needs. *ret_gone: that was so. @in_use asks before. */
int image_remove(const char *pin, const char *tag, int (*in_use)(const char *pin, struct err *err),
	bool *ret_gone, struct err *err);

/* The certificates that the image at @path (from image_root) trusts: PEM text appended to @pem. -1 when
 * that is not known. */
struct buf;
int image_ca(const char *path, struct buf *pem);

/* A new sparse ext4 disk of @bytes at @path (must not exist). */
int image_disk_create(const char *path, uint64_t bytes, struct err *err);

/* Whether kernel pack and base image are those that image_build() would make. */
bool image_is_current(void);
/* Make what is missing or was made by an earlier Hutch: kernel pack, base image, disk template. @force
 * makes all of it anew. */
int image_build(bool force, image_progress_fn *progress, void *arg, struct err *err);
/* Table for `hutch image ls`. */
int image_list(FILE *out, bool json, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#pragma once

#include "base/child.h"
#include "base/err.h"
#include "base/mem.h"
#include "image/image.h"

/* The kinds of root image a kernel pack must be able to mount. */
#define ROOT_FS_MODULE "squashfs"

/* store.c */
char *image_dir(const char *sub, struct err *err); /* $XDG_DATA_HOME/hutch/@sub, owned */
/* Lower-case hex SHA-256 of a file, by sha256sum. */
int file_digest(const char *path, char ret[static 65], struct err *err);
/* Move a finished file or directory into place (fsync, rename). */
int file_publish(const char *tmp, const char *path, struct err *err);
/* An exclusive lock on the data directory for the length of a build; a descriptor. */
int store_lock(struct err *err);
/* A lock, LOCK_SH or LOCK_EX of flock(2), on file @name beside the images; a descriptor. Who has to
 * wait says @waiting to @progress first (or NULL). */
int images_lock(const char *name, int how, const char *waiting, image_progress_fn *progress,
	void *arg, struct err *err);
/* Run a program, its output lines handed to @line (may be NULL); failure carries the last lines. */
struct job {
	const char *what; /* for errors: "kernel package" */
	char *const *argv;
	int in, out;	  /* stdin and stdout descriptors, or CHILD_NULL; stderr is always read */
	int cwd;	  /* directory descriptor, or 0 */
	const int *fds;	  /* its descriptors from 3 on; borrowed */
	size_t nfds;
	void (*line)(void *arg, const char *line);
	void *arg;
	int *ret_status; /* as waitpid() gives it; or NULL */
};
int job_run(const struct job *j, struct err *err);
/* words.c: what one of our own programs says. */
struct words {
	image_progress_fn *progress; /* or NULL */
	void *arg;
	const char *what;		/* that makes progress */
	char *answer, *reason, *remedy; /* owned, or NULL */
};
/* Run @job, whose line and arg are set here. The error is the program's own reason. */
int words_run(const struct job *job, struct words *w, int *ret_status, struct err *err);
void words_done(struct words *w);

/* kernel.c: the pack directory, or kernel file, that image_kernel() uses: an owned path. */
char *kernel_current(struct err *err);
/* kernel_build.c */
/* Whether the default pack was made for what a guest needs today; another Hutch may have made it. */
bool kernel_is_current(const char *packs_dir);
int kernel_build(const char *packs_dir, image_progress_fn *progress, void *arg, struct err *err);
/* modules.c: the modules of @tree (a lib/modules/RELEASE directory) that a guest needs, with their
 * dependencies in load order, as lines "early PATH", "late PATH" or "demand PATH". */
int modules_select(const char *tree, struct strv *ret_lines, struct err *err);
/* The names that modules_select() looks for, as one owned line. A pack keeps the line it was made with. */
char *modules_wanted(void);
/* initramfs.c: write a newc archive with @init and the modules of a pack. */
int initramfs_write(const char *pack_dir, const char *init, const char *to, struct err *err);
/* squash.c */
struct squash {
	struct child child;
	int errors; /* its output, to be read at the end */
};
/* Start making @out of what comes from the pipe @tar. After success squash_end must be called, when the
 * other end has been closed; it waits, and says what went wrong. */
int squash_start(const char *out, int tar, struct squash *ret, struct err *err);
int squash_end(struct squash *s, const char *what, struct err *err);
/* root_build.c */
/* Whether the base image was made as root_build() does it. */
bool root_is_current(const char *images_dir);
int root_build(const char *images_dir, image_progress_fn *progress, void *arg, struct err *err);
/* image.c: the digits of what "base" means today, owned; "": there is none. */
char *base_digest(const char *images_dir);
/* pull.c: the same as image_resolve, image_root and image_find, for images in registries. */
int oci_resolve(const char *ref, char **ret_pinned, struct image_config *ret, struct err *err);
int oci_root(const char *ref, const struct strv *layers, image_progress_fn *progress, void *arg,
	char **ret_path, char **ret_pinned, struct err *err);
int oci_find(const char *ref, const struct strv *layers, char **ret_path, char **ret_pinned,
	struct err *err);
/* The digits of all blobs of the image @pin, as far as they are known, appended. */
void oci_blobs(const char *pin, struct strv *ret);
/* disk.c */
int disk_template(const char *images_dir, uint64_t bytes, char **ret_path, struct err *err);

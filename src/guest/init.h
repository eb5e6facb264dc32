/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-init, PID 1 of every sandbox: the steps of the boot, one file each.
 *
 * Functions that take @root work below that directory ("" is the real root), so that tests run them
 * on a scratch tree. The guest's own root user is not trusted to leave files alone: nothing here
 * blocks on a FIFO or reads without a ceiling. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/mem.h"
#include "wire/agent.h"

#define AGENT_USER  "agent"
#define AGENT_UID   1000
#define AGENT_HOME  "/home/" AGENT_USER
#define INIT_PATH   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define SHARE_DIR   "/run/hutch/share"
#define MODULE_LIST "/hutch/modules"

/* cgroup.c */
/* Mount the control groups and make those that commands run in. Without them commands run all the same,
 * unlimited. */
void cgroup_make(void);
/* As fork(), for a command: the child is in a group of its own. */
pid_t cgroup_fork(void);
/* Remove the groups that no process is left in. */
void cgroup_tidy(void);

/* console.c */
/* One line on the console, prefixed "hutch-init: ". */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t uptime_us(void);
/* Remember that @step (borrowed for ever) is done now; trace_print lists all of them. Kept in
 * memory because the serial console is slow enough to distort what it measures. */
void trace(const char *step);
void trace_print(void);
/* Whether the kernel command line has the word @word. */
bool cmdline_has(const char *cmdline, const char *word);
/* The number behind the word that begins with @key ("hutch.generation="); 0: there is none. */
unsigned long cmdline_number(const char *cmdline, const char *key);

/* files.c */
/* Append a regular file's content. Anything else (FIFO, device) is an error, without blocking. */
int file_read(const char *path, struct buf *b, struct err *err);
/* Make @path hold @data: nothing is written when it does already, else temporary and rename. */
int file_put(const char *path, const void *data, size_t len, mode_t mode, struct err *err);
int file_put_text(const char *path, const char *text, mode_t mode, struct err *err);
/* Write into an existing kernel file (sysctl). An absent one is no error: kernels differ. */
void file_set(const char *path, const char *text);
/* mkdir -p with mode 0755; directories made here belong to @uid:@gid. */
int dirs_make(const char *path, uid_t uid, gid_t gid, struct err *err);
/* As dirs_make for the parent of @path. */
int dirs_make_parent(const char *path, uid_t uid, gid_t gid, struct err *err);
/* Absolute, no empty, "." or ".." component, shorter than PATH_MAX, not "/" itself. */
bool path_is_plain(const char *path);

/* modules.c */
/* Insert the modules of MODULE_LIST in its order. Its lines are "early PATH" or "late PATH"; the
 * early ones come first. @late: those that the root does not need, else the others. One that fails is
 * named on the console; what needs it will fail later with its own message. Drivers of what the
 * machine lacks, by its kernel's parameters @cmdline, are left out. */
void modules_load(bool late, const char *cmdline);
/* Free the initramfs: remove the modules, the list and /init below @oldroot (a directory). */
void modules_forget(int oldroot);

/* layer.c */
struct layer {
	unsigned long generation;
	bool fresh; /* no set-up has finished on it: it begins empty */
};
/* The directory of the layer's parts below @disk, made where it is missing; owned. */
char *layer_make(const char *disk, const struct layer *l, struct err *err);
/* Whether the entry @name of the disk is of a layer that is not @l. */
bool layer_is_stale(const char *name, const struct layer *l);
/* Remove those, in a child, where @l is set up. @disk: borrowed. */
void layer_sweep(int disk, const struct layer *l);

/* mounts.c */
/* Mount the root image with its overlay and make it "/". *ret_disk and *ret_oldroot are directory
 * descriptors of the writable disk and of the initramfs, owned by the caller. */
int root_mount(const struct layer *l, int *ret_disk, int *ret_oldroot, struct err *err);
/* /dev/pts, /dev/shm, /run, /tmp and the links that programs expect. */
int mounts_runtime(struct err *err);
/* Mount an exported folder at its path. The virtio-fs device is mounted by the first one. */
int export_mount(const struct agent_export *e, struct err *err);
bool export_valid(const struct agent_export *e);

/* netcfg.c */
int net_up(struct err *err);
/* /etc/resolv.conf, /etc/hosts, /etc/hostname. */
int net_files(const char *root, const char *hostname, struct err *err);
bool hostname_valid(const char *name);

/* pressure.c */
/* Let the kernel's out-of-memory killer run when it must; @w has to outlive @l. */
void pressure_watch(struct loop *l, struct loop_watch *w);
/* How many programs it has killed since the last call. */
uint32_t pressure_kills(void);

/* trust.c */
/* Add the certificates in @pem to the trust stores below @root. The last one is the sandbox's own
 * CA. Without certificates it does nothing. */
int trust_files(const char *root, struct buf *pem, struct err *err);
/* Variables that make programs use those stores. */
void trust_env(struct strv *env);

/* users.c */
struct user {
	uid_t uid;
	gid_t gid;
	char *name, *home, *shell; /* owned */
	gid_t groups[64];          /* gid included */
	size_t n_groups;
};
/* @name: user name, number, or "" for AGENT_USER. A number without an entry is a user without a
 * home. */
int user_find(const char *root, const char *name, struct user *ret, struct err *err);
void user_done(struct user *u);
/* Make AGENT_USER what kits rely on, whatever the image: AGENT_UID, AGENT_HOME, and sudo without a
 * password where there is sudo. A user of the image who has the number keeps name and files, but the
 * number means the agent. An image without users gets root as well. */
int users_ensure_agent(const char *root, struct err *err);

/* login.c */
/* Make login shells and sudo keep the sandbox's environment. */
int login_files(const char *root, const struct strv *env, struct err *err);
/* Set K=V in @env, replacing an earlier value of K. Strings without a name are ignored. */
void env_set(struct strv *env, const char *assignment);
const char *env_get(const struct strv *env, const char *name); /* borrowed or NULL */

/* power.c */
/* Flush and detach the disk, then end the machine. Every other process must be gone. Never returns
 * when it runs as PID 1. */
void power_off(int disk);

/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-box: the supervisor of one running sandbox. Shared state of the process; each part of it is
 * written by the file named in its comment only. */
#pragma once

#include <stdbool.h>

#include "base/child.h"
#include "base/err.h"
#include "base/loop.h"
#include "box/stream.h"
#include "wire/spec.h"

/* The life of a sandbox, in order; no state is entered twice. */
enum box_state {
	BOX_STARTING, /* workers run; waiting for the gate, the VMM and the guest's HELLO */
	BOX_SETUP,    /* the guest is configured; files, install and start-up steps run */
	BOX_READY,    /* streams may be opened */
	BOX_STOPPING, /* the guest was asked to power off, or workers are being killed */
	BOX_ENDED,    /* every worker is reaped; clients are told and the process exits */
};
const char *box_state_name(enum box_state s);

enum worker_id { WORKER_GATE, WORKER_VMM, WORKER_QEMU, WORKER_SECRET, WORKER_SSH, WORKERS };

/* Two readings of clock and TSC, some work in between. */
struct engine_clock {
	uint64_t tsc, ns;
};

struct worker {
	struct child child; /* pid 0: not running */
	struct loop_watch w;
	struct box *box;
};

struct box {
	struct loop *loop;
	struct box_spec spec;
	const char *name;
	char *dir;  /* boxes/NAME, absolute */
	int dir_fd; /* owned */
	int lock_fd;

	/* main.c */
	struct loop_watch signal_w;
	char *control_socket; /* its path */

	/* box.c */
	enum box_state state;
	bool failed, remove, withdrawn;
	bool stopped_early; /* by somebody, before it was ready */
	struct err failure; /* what waiters are told when failed */
	struct loop_timer boot_timer, stop_timer;

	struct engine_clock clock; /* main.c */

	/* workers.c */
	struct worker workers[WORKERS];
	int vmm_link, gate_control; /* owned */
	struct loop_watch vmm_w, gate_w;
	struct buf gate_in;
	bool vmm_ready, gate_ready, jail_told;
	unsigned jail_missing[WORKERS + 1]; /* layers that the host refused; the last is our own */
	enum spec_phase phase; /* SPEC_INSTALL while rules for the installation are in force */
	char *ca_pem; /* the sandbox CA, from the gate */
	enum spec_engine engine; /* which one runs, never AUTO */
	struct spec_mount modules; /* the kernel's, for the guest; host_path NULL: it has none */
	char *net_socket; /* path on which the VMM waits for qemu's network device */

	/* ssh.c */
	struct loop_watch ssh_w;
	int ssh_link; /* owned; -1: the sandbox has no ssh-agent */
	bool ssh_ready; /* or not there */

	/* console.c */
	struct loop_watch console_w;
	int console_fd, console_log; /* pipe from qemu; console.log */
	size_t console_written;

	/* guest.c */
	struct stream control;
	struct buf host_ca; /* certificates of this host that the image lacks */
	bool guest_hello;
	char *guest_kernel;

	/* setup.c */
	struct setup *setup;
	bool installed; /* workers.c: the disk has the install steps behind it */

	/* keep.c */
	struct keep *keep; /* the disk is to be kept */

	/* control.c */
	struct control *control_server;

	/* ports.c */
	struct ports *ports;
};

/* seal.c */
/* Give up what is not needed any more once the workers run. */
int box_seal(struct box *b, unsigned *missing, struct err *err);

/* box.c */
/* Something happened that may let the sandbox advance to its next state. */
void box_advance(struct box *b);
/* The sandbox cannot go on: remember why (first reason wins) and stop. @err may be NULL. */
void box_fail(struct box *b, const struct err *err);
/* Ask the guest to power off; @kill: do not ask. @remove: delete the sandbox afterwards. */
void box_stop(struct box *b, bool kill, bool remove);
/* The guest closed its control stream by itself: it powers off, or crashed. */
void box_guest_leaves(struct box *b);
/* A worker ended. */
void box_worker_ended(struct box *b, enum worker_id id, int status);
/* Setup finished (NULL) or failed. */
void box_setup_done(struct box *b, const struct err *err);

/* main.c */
int box_read_spec(const struct box *b, struct box_spec *ret, struct err *err);

/* workers.c */
int workers_start(struct box *b, struct err *err);
/* Every layer that some process of this sandbox lacks. */
unsigned workers_missing(const struct box *b);
/* Log what is missing; -1 when the sandbox was asked to be strict about it. */
int workers_jailed(struct box *b, struct err *err);
/* Tell those who wait. */
void workers_tell_missing(struct box *b);
void workers_kill(struct box *b);
bool workers_running(const struct box *b);
/* Read the network part of spec.json again and put it in force; the rest stays as it was. */
int workers_reload(struct box *b, struct err *err);
/* The install steps are through: what was for them only is closed for good. When the gate has done so,
 * setup_phase_ended is called; when it has not, the sandbox fails. */
int workers_end_install(struct box *b, struct err *err);
/* The user's answer to a question of the gate; @op: "approve" or "dismiss". */
int workers_answer(struct box *b, const char *op, const char *id, struct err *err);
/* A new agent stream: one end is handed to the VMM, the other returned (owned by the caller). */
int workers_open_stream(struct box *b, int *ret_fd, struct err *err);

/* Start one of them; its end is told to box_worker_ended. */
int worker_spawn(struct box *b, enum worker_id id, const struct child_spec *spec, struct err *err);

/* exports.c */
struct kernel_pack;
/* The guest sees the pack's modules, if there are any, where modprobe looks for them. */
void exports_add_modules(struct box *b, const struct kernel_pack *pack);
/* Hand all directories to hutch-vmm, and say that there are no more. */
int exports_send(struct box *b, struct err *err);

/* ssh.c */
/* Start hutch-ssh where the sandbox may use the user's agent, and there is one. */
int ssh_start(struct box *b, struct err *err);
void ssh_stop(struct box *b);
/* The guest wants to talk to the agent. */
void ssh_connection(struct box *b, int fd /* taken */);

/* engine_qemu.c */
void engine_qemu_clock_start(struct engine_clock *c);
/* The host's TSC frequency; sleeps when too little time has passed since the start. */
uint64_t engine_qemu_clock_khz(const struct engine_clock *c);
struct engine_files {
	const char *program, *kernel, *initrd, *net_socket; /* borrowed */
	const char *kernel_args; /* more kernel parameters */
	uint64_t tsc_khz;
};
/* Fills argv for qemu. */
int engine_qemu_argv(const struct box_spec *s, const struct engine_files *f, struct strv *ret_argv);

/* engine_kvm.c: argv for hutch-vmm that runs the virtual machine itself. */
void engine_kvm_argv(
	const struct box_spec *s, const char *kernel_args, struct strv *ret_argv);

/* console.c */
void console_start(struct box *b, int fd /* taken */);
void console_stop(struct box *b);

/* guest.c */
/* Work that can be done while the guest boots. @image_path: its root image. */
void guest_prepare(struct box *b, const char *image_path);
void guest_accept_control(struct box *b, int fd /* taken */);
int guest_send_setup(struct box *b, struct err *err);
void guest_shutdown(struct box *b);
void guest_close(struct box *b);

/* setup.c */
/* Begin files, install (first start only) and start-up steps; ends in box_setup_done. */
void setup_start(struct box *b);
/* The gate has closed what was for the install steps only, or says why it has not. */
void setup_phase_ended(struct box *b);
void setup_phase_failed(struct box *b, const char *why);
void setup_free(struct box *b);
/* Run the kit's own command detached, output to agent.log. */
int setup_detach(struct box *b, const struct strv *argv, struct err *err);

/* keep.c */
/* hutch-box --check FILE: the exit status of e2fsck, which reads a guest's disk and reaches nothing
 * else. */
int keep_check(const char *disk);
/* Before the process is sealed: make ready to keep the disk, when it is to be. */
void keep_prepare(struct box *b);
/* Keep the disk as it is now in the install cache, then call @done in any case. */
void keep_start(struct box *b, void (*done)(struct box *b));
void keep_stop(struct box *b);

/* control.c */
int control_start(struct box *b, int listen_fd /* taken */, struct err *err);
/* A line of progress for everybody who waits. */
void control_progress(struct box *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A question of the gate for those who watch. */
void control_question(struct box *b, const char *text);
/* Tell waiters about the new state. */
void control_state(struct box *b);
/* Tell those who asked for the end that it has come. */
void control_removed(struct box *b);
void control_stop(struct box *b);

/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of one sandbox. Every event calls box_advance or one of the functions that end
 * it; nothing else changes b->state. */
#include "box/box.h"
#include "box/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

/* To the agent's first word. Software emulation on a loaded machine is slow (20 s have been seen), and
 * once in a while an emulated machine hangs before its kernel prints a line; then it is started anew. */
#define BOOT_TIMEOUT_MS (60u * 1000)
#define STOP_TIMEOUT_MS 15000u

static const char *const state_names[] = {"starting", "setup", "ready", "stopping", "ended"};
_Static_assert(ARRAY_SIZE(state_names) == BOX_ENDED + 1, "a name for every state");

const char *box_state_name(enum box_state s)
{
	return state_names[s];
}

static void enter(struct box *b, enum box_state s)
{
	log_info("state=%s", state_names[s]);
	b->state = s;
	if (s == BOX_READY)
		ports_start(b);
	else if (s >= BOX_STOPPING)
		ports_stop(b);
	control_state(b);
}

static void on_stop_timeout(struct loop *l, struct loop_timer *t)
{
	struct box *b = container_of(t, struct box, stop_timer);

	log_warn("guest did not power off in time");
	workers_kill(b);
}

/* Take the sandbox off the file system: its sockets, and its directory when it is to go. */
static void withdraw(struct box *b)
{
	struct err err;

	if (b->withdrawn)
		return;
	/* Before the name is free for others, whose sockets these would then be. */
	unlink(b->control_socket);
	if (b->net_socket)
		unlink(b->net_socket);
	/* The name is free for others the moment the directory is gone. */
	if ((b->remove || (b->spec.remove_on_exit && !b->failed)) &&
		fs_remove_tree(AT_FDCWD, b->dir, &err) < 0)
		log_error("remove: %s", err.msg);
	else
		b->withdrawn = true;
}

/* Everything is reaped: leave the loop. */
static void maybe_end(struct box *b)
{
	if (b->state != BOX_STOPPING || workers_running(b))
		return;
	loop_timer_stop(b->loop, &b->boot_timer);
	loop_timer_stop(b->loop, &b->stop_timer);
	setup_free(b);
	guest_close(b);
	console_stop(b);
	withdraw(b);
	enter(b, BOX_ENDED);
	loop_stop(b->loop, b->failed ? 1 : 0);
}

static void stop_workers(struct box *b, bool kill)
{
	if (b->state < BOX_STOPPING)
		enter(b, BOX_STOPPING);
	if (kill || b->control.fd < 0) {
		workers_kill(b);
	} else {
		guest_shutdown(b);
		loop_timer_start(b->loop, &b->stop_timer, STOP_TIMEOUT_MS, on_stop_timeout);
	}
	maybe_end(b);
}

void box_stop(struct box *b, bool kill, bool remove)
{
	if (remove)
		b->remove = true;
	else if (b->state < BOX_READY)
		b->stopped_early = true;
	if (b->state < BOX_STOPPING || kill)
		stop_workers(b, kill || b->remove);
	/* Killed for good: nobody needs to wait until the kernel has taken the guest's memory apart. */
	if (b->state == BOX_STOPPING && b->remove && kill) {
		withdraw(b);
		if (b->withdrawn)
			control_removed(b);
	}
}

void box_guest_leaves(struct box *b)
{
	enter(b, BOX_STOPPING);
	loop_timer_start(b->loop, &b->stop_timer, STOP_TIMEOUT_MS, on_stop_timeout);
}

void box_fail(struct box *b, const struct err *err)
{
	if (b->state >= BOX_STOPPING)
		return;
	b->failed = true;
	if (err)
		b->failure = *err;
	log_error("failed: %s", b->failure.msg);
	stop_workers(b, true);
}

void box_worker_ended(struct box *b, enum worker_id id, int status)
{
	static const char *const what[] = {"the network gate", "the device process",
		"the virtual machine", "", ""};
	struct err err;
	char text[64];

	if (b->state < BOX_STOPPING) {
		/* Requests that need it fail, and say so; the rest of the sandbox does not need it. */
		if (id == WORKER_SSH && b->spec.ssh_phase == SPEC_INSTALL && b->phase == SPEC_RUNTIME)
			return; /* no longer wanted */
		if (id == WORKER_SECRET || id == WORKER_SSH) {
			control_progress(b, "the process that %s has ended (hutch logs %s)",
				id == WORKER_SSH ? "guards the ssh-agent" : "fetches credentials",
				b->name);
			return;
		}
		/* The guest powered itself off: an ordinary end. */
		if (id == (b->engine == SPEC_ENGINE_KVM ? WORKER_VMM : WORKER_QEMU) && b->state == BOX_READY && WIFEXITED(status) &&
			WEXITSTATUS(status) == 0) {
			stop_workers(b, true);
			return;
		}
		err_set(&err, ERR_ENV, "%s ended unexpectedly (%s)", what[id],
			child_status_text(status, text, sizeof(text)));
		err_hint(&err, "hutch logs %s", b->name);
		box_fail(b, &err);
		return;
	}
	/* Without a virtual machine there is nothing left to serve. Without its devices it cannot go
	 * on, and has not just powered itself off; the control stream's end has only come first. */
	if (id != WORKER_GATE && id != WORKER_SECRET && id != WORKER_SSH)
		workers_kill(b);
	maybe_end(b);
}

static void on_boot_timeout(struct loop *l, struct loop_timer *t)
{
	struct box *b = container_of(t, struct box, boot_timer);
	struct err err;

	err_set(&err, ERR_ENV, "the guest did not start within %u s", BOOT_TIMEOUT_MS / 1000);
	err_hint(&err, "hutch logs %s", b->name);
	err.errnum = EAGAIN;
	box_fail(b, &err);
}

void box_setup_done(struct box *b, const struct err *err)
{
	if (b->state != BOX_SETUP)
		return;
	if (err)
		box_fail(b, err);
	else
		enter(b, BOX_READY);
}

void box_advance(struct box *b)
{
	struct err err;

	if (b->state != BOX_STARTING)
		return;
	if (b->vmm_ready && b->gate_ready && b->ssh_ready && !b->jail_told) {
		b->jail_told = true;
		if (workers_jailed(b, &err) < 0) {
			box_fail(b, &err);
			return;
		}
	}
	if (!b->boot_timer.due_ns)
		loop_timer_start(b->loop, &b->boot_timer, BOOT_TIMEOUT_MS, on_boot_timeout);
	if (!b->vmm_ready || !b->gate_ready || !b->ssh_ready || !b->guest_hello)
		return;
	loop_timer_stop(b->loop, &b->boot_timer);
	enter(b, BOX_SETUP);
	workers_tell_missing(b); /* by now somebody listens */
	if (guest_send_setup(b, &err) < 0)
		box_fail(b, &err);
}

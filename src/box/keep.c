/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping the disk after the install steps, for sandboxes that would run the same ones.
 *
 * The guest has just been told to sync, and nothing runs in it. Its machine is stopped while the
 * disk is copied, so the copy is what a power cut at that moment would leave: everything synced is
 * in it, and the journal puts the rest right. e2fsck does that on the copy, and looks at all of it;
 * only what it finds sound is renamed into the cache. Whatever goes wrong costs the entry, never
 * the sandbox.
 *
 * hutch-box starts no program once it is sealed and cannot reach the cache. So a shell is started
 * before, which waits for a line and does all of it. Only e2fsck reads what the guest wrote: it can
 * reach nothing but that copy (keep_check()). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/paths.h"
#include "box/box.h"
#include "image/cache.h"

/* $1 disk, $2 temporary copy, $3 entry without its ending, $4 what is said about it, $5 hutch-box.
 * e2fsck: 1 means that it corrected something, as the journal. */
static const char script[] =
	"trap 'rm -f \"$2\" \"$2.json\"' EXIT\n"
	"trap 'exit 1' TERM\n"
	"read -r go || exit 0\n"
	"cp --reflink=auto --sparse=always -- \"$1\" \"$2\" || exit 1\n"
	"echo copied\n"
	"\"$5\" --check \"$2\" >&2; [ $? -le 1 ] || exit 1\n"
	"printf %s \"$4\" >\"$2.json\" && sync \"$2\" \"$2.json\" &&\n"
	"mv -f \"$2.json\" \"$3.json\" && mv -f \"$2\" \"$3.img\" && echo kept\n";

struct keep {
	struct box *box;
	struct child child;
	int go; /* owned: a line begins it */
	struct loop_watch w;
	int from; /* owned: what it says */
	char said[64];
	size_t n_said;
	bool stopped; /* the machine stands still */
	void (*done)(struct box *b);
};

/* The process that runs the virtual CPUs. */
static struct child *machine(struct box *b)
{
	return &b->workers[b->workers[WORKER_QEMU].child.pid > 0 ? WORKER_QEMU : WORKER_VMM].child;
}

static void hold_machine(struct keep *k, bool stop)
{
	if (k->stopped != stop && machine(k->box)->pid > 0)
		child_kill(machine(k->box), stop ? SIGSTOP : SIGCONT);
	k->stopped = stop;
}

static void keep_free(struct keep *k)
{
	struct box *b = k->box;

	hold_machine(k, false);
	if (k->done)
		loop_del(b->loop, &k->w);
	close_and_reset(&k->go);
	close_and_reset(&k->from);
	if (k->child.pid > 0) {
		if (k->done)
			child_kill(&k->child, SIGTERM); /* it removes its temporary files */
		child_wait(&k->child);
	}
	free(k);
	b->keep = NULL;
}

static char *describe(const struct box *b)
{
	_free_ char *kits = xstrdup("");
	json_t *j, *layers = json_array();
	char *info;

	for (size_t i = 0; i < b->spec.kits.n; i++) {
		char *next = xasprintf("%s%s%s", kits, i ? ", " : "", b->spec.kits.v[i]);

		free(kits);
		kits = next;
	}
	for (size_t i = 0; i < b->spec.layers.n; i++)
		json_array_append_new(layers, json_string(b->spec.layers.v[i]));
	j = json_pack("{s:s, s:s, s:o}", "kits", kits, "image", b->spec.image, "layers", layers);
	info = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	return info;
}

static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

int keep_check(const char *disk)
{
	char *env[] = {path, NULL}, **argv = ARGV("e2fsck", "-fp", disk);
	struct landlock_rule rules[LANDLOCK_PROGRAMS + 2];
	size_t n = landlock_programs(rules);
	struct err err;
	int status;

	for (const char *const *p = (const char *const[]){disk, "/dev/null", NULL}; *p; p++)
		rules[n++] = (struct landlock_rule){
			.path = *p, .access = LANDLOCK_LOOK | LANDLOCK_MODIFY};
	status = child_run(&(struct child_spec){.path = argv[0],
				   .argv = argv,
				   .envp = env,
				   .in = CHILD_NULL,
				   .out = STDERR_FILENO,
				   .errout = CHILD_INHERIT,
				   .jail = JAIL_PID | JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT |
					   JAIL_CAPS | JAIL_NEWPRIVS,
				   .rules = rules,
				   .n_rules = n},
		NULL, 0, &err);
	if (status < 0)
		log_warn("install cache: %s", err.msg);
	return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}

static int spawn_shell(struct keep *k, int in, int out, struct err *err)
{
	struct box *b = k->box;
	_free_ char *disk = fs_join(b->dir, "disk.img"), *info = describe(b);
	_free_ char *entry = image_cache_entry(b->spec.cache_key, err), *tmp = NULL;
	_free_ char *own = path_program("hutch-box");
	char *env[] = {path, NULL};

	if (!entry || !info)
		return -1;
	tmp = xasprintf("%s.%d.tmp", entry, (int)getpid());
	char **argv = ARGV("sh", "-c", script, "keep", disk, tmp, entry, info, own);

	return child_spawn(&(struct child_spec){.path = argv[0],
				   .argv = argv,
				   .envp = env,
				   .in = in,
				   .out = out,
				   .errout = CHILD_INHERIT},
		&k->child, err);
}

void keep_prepare(struct box *b)
{
	struct keep *k;
	struct err err = {0};
	int in[2], out[2];

	/* Never the disk of a later generation, whose volumes are somebody's. */
	if (b->installed || b->spec.generation || !b->spec.cache_key[0] || !b->spec.n_install ||
		spec_is_set_up(b->dir_fd, &b->spec) || pipe2(in, O_CLOEXEC) < 0)
		return;
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in[0]);
		close(in[1]);
		return;
	}
	k = xcalloc(1, sizeof(*k));
	k->box = b;
	k->go = in[1];
	k->from = out[0];
	if (spawn_shell(k, in[0], out[1], &err) == 0) {
		b->keep = k;
	} else {
		log_warn("install cache: %s", err.msg);
		keep_free(k);
	}
	close(in[0]);
	close(out[1]);
}

static void finish(struct keep *k)
{
	void (*done)(struct box *) = k->done;
	struct box *b = k->box;

	keep_free(k);
	done(b);
}

/* "copied" lets the machine go on; the end of the stream ends it all. */
static void on_word(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct keep *k = container_of(w, struct keep, w);
	ssize_t n = read(k->from, k->said + k->n_said, sizeof(k->said) - 1 - k->n_said);

	if (n > 0) {
		k->n_said += (size_t)n;
		if (strstr(k->said, "copied\n"))
			hold_machine(k, false);
		return;
	}
	if (strstr(k->said, "kept\n"))
		log_info("install cache: kept %s", k->box->spec.cache_key);
	else
		log_warn("install cache: the disk could not be kept");
	finish(k);
}

void keep_start(struct box *b, void (*done)(struct box *b))
{
	struct keep *k = b->keep;

	if (!k) {
		done(b);
		return;
	}
	if (loop_add(b->loop, &k->w, k->from, EPOLLIN, on_word) < 0) {
		log_warn("install cache: %s", strerror(errno));
		keep_free(k);
		done(b);
		return;
	}
	k->done = done;
	hold_machine(k, true);
	if (fd_write_all(k->go, "go\n", 3) < 0)
		finish(k);
}

void keep_stop(struct box *b)
{
	if (b->keep)
		keep_free(b->keep);
}

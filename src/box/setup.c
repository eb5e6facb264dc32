/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing a kit into the running guest: files, install steps, start-up commands.
 *
 * The order is that of the kit rules: what must be mounted on every start; then files/home, install, setup.files, files/workspace on the first
 * start; start-up commands on every start, the background ones not waited for. Each job is one agent
 * stream. The file setup-done in the sandbox's directory marks a finished first start of its generation;
 * without it the next start begins with a new disk, or with a new layer of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "box/box.h"

#define LOG_MAX	     (4u << 20)
#define TAIL_MAX     2048u
#define TREE_DEPTH   64
#define AGENT_ID     1000u
#define PUT_LOW_MARK (64u << 10)

/* One entry to be put into the guest. */
struct item {
	char *source; /* host file, or NULL: content */
	const char *content;
	struct agent_entry e;
};

enum job_kind { JOB_PUT, JOB_EXEC, JOB_KEEP, JOB_PHASE };

struct job {
	enum job_kind kind;
	const char *what;	      /* for progress and errors; borrowed from the spec */
	const struct spec_step *step; /* JOB_EXEC */
	struct item *items;	      /* JOB_PUT, owned */
	size_t n_items;
};

/* One running agent stream. */
struct task {
	struct stream s;
	struct box *box;
	struct job *job;     /* NULL: detached command */
	bool background;     /* nobody waits for it */
	bool done;
	const char *why;     /* our own reason for closing, or NULL */
	size_t at;	     /* JOB_PUT: the next item */
	int file;	     /* JOB_PUT: being sent; -1 */
	const char *content; /* JOB_PUT: being sent instead of a file, or NULL */
	uint64_t left;	     /* bytes of either */
	char tail[TAIL_MAX]; /* the end of the output, for the error message */
	size_t tail_len;
	int log;	     /* owned */
	struct task *next;
};

struct setup {
	struct job *jobs;
	size_t n_jobs, at, cap;
	struct task *tasks; /* owned list */
	bool first_start;
	bool phase_ends; /* JOB_PHASE: waiting for the gate */
	size_t log_written;
};

static struct job *add_job(struct setup *u, enum job_kind kind, const char *what)
{
	if (u->n_jobs == u->cap) {
		u->cap = u->cap ? u->cap * 2 : 16;
		u->jobs = xrealloc(u->jobs, u->cap, sizeof(*u->jobs));
	}
	u->jobs[u->n_jobs] = (struct job){.kind = kind, .what = what};
	return &u->jobs[u->n_jobs++];
}

static struct item *add_item(struct job *j)
{
	j->items = xrealloc(j->items, j->n_items + 1, sizeof(*j->items));
	j->items[j->n_items] = (struct item){0};
	return &j->items[j->n_items++];
}

static int add_tree(struct job *j, const char *host, const char *guest, int depth, struct err *err)
{
	DIR *dir = opendir(host);
	struct dirent *d;
	int result = 0;

	if (!dir)
		return err_errno(err, "%s", host);
	while (result == 0 && (d = readdir(dir))) {
		_free_ char *from = NULL;
		struct item *it;
		struct stat st;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		from = fs_join(host, d->d_name);
		if (depth > TREE_DEPTH)
			errno = ELOOP;
		if (depth > TREE_DEPTH || lstat(from, &st) < 0) {
			result = err_errno(err, "%s", from);
			break;
		}
		it = add_item(j);
		it->e = (struct agent_entry){.path = fs_join(guest, d->d_name),
			.mode = (uint16_t)(st.st_mode & 0777),
			.uid = AGENT_ID,
			.gid = AGENT_ID};
		if (S_ISDIR(st.st_mode)) {
			it->e.kind = AGENT_ENTRY_DIR;
			_free_ char *sub = xstrdup(it->e.path);
			result = add_tree(j, from, sub, depth + 1, err);
		} else if (S_ISLNK(st.st_mode)) {
			char target[4096];
			ssize_t n = readlink(from, target, sizeof(target) - 1);

			it->e.kind = AGENT_ENTRY_SYMLINK;
			it->e.target = xstrndup(target, (size_t)MAX(n, 0));
		} else {
			it->e.kind = AGENT_ENTRY_FILE;
			it->e.size = (uint64_t)st.st_size;
			it->source = steal_ptr(&from);
		}
	}
	closedir(dir);
	return result;
}

static int add_trees(struct box *b, const struct spec_tree *trees, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		_free_ char *host = xasprintf("%s/files/%s", b->dir, trees[i].dir);
		struct job *j = add_job(b->setup, JOB_PUT, trees[i].kit);

		if (add_tree(j, host, trees[i].dest, 0, err) < 0)
			return -1;
	}
	return 0;
}

static void add_files(struct box *b, bool first_start)
{
	for (size_t i = 0; i < b->spec.n_files; i++) {
		const struct spec_file *f = &b->spec.files[i];
		struct job *j;
		struct item *it;

		if (!first_start && !f->each_start)
			continue;
		j = add_job(b->setup, JOB_PUT, f->kit);
		it = add_item(j);
		it->content = f->content;
		it->e = (struct agent_entry){.kind = AGENT_ENTRY_FILE,
			.flags = f->only_if_missing ? AGENT_ENTRY_ONLY_IF_MISSING : 0,
			.mode = (uint16_t)f->mode,
			.uid = f->as_root ? 0 : AGENT_ID,
			.gid = f->as_root ? 0 : AGENT_ID,
			.size = strlen(f->content),
			.path = xstrdup(f->path)};
	}
}

static void add_steps(struct box *b, const struct spec_step *steps, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!steps[i].done)
			add_job(b->setup, JOB_EXEC, steps[i].kit)->step = &steps[i];
}

/* A workspace of the user's outlives the generations of the sandbox, and what was done there. */
static bool brings_workspace(const struct box_spec *s)
{
	return !s->generation || !s->n_mounts || s->mounts[0].kit;
}

/* What is in the guest's memory goes to the disk, then the disk is kept. Twice, because what the file
 * system of a volume writes are changes of a file. */
static void add_keep(struct box *b)
{
	static char sh[] = "sh", c[] = "-c", twice[] = "sync && sync", root[] = "0", none[] = "";
	static char *argv[] = {sh, c, twice, NULL};
	static const struct spec_step step = {
		.argv = {argv, 3}, .user = root, .description = none, .kit = none};

	add_job(b->setup, JOB_EXEC, "cache")->step = &step;
	add_job(b->setup, JOB_KEEP, "cache");
}

static void task_free(struct setup *u, struct task *t)
{
	for (struct task **at = &u->tasks; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			break;
		}
	}
	stream_close(&t->s);
	close_and_reset(&t->file);
	close_and_reset(&t->log);
	free(t);
}

static void next_job(struct box *b);

static const char *step_name(const struct job *j)
{
	return j->step->description[0] ? j->step->description : j->step->argv.v[j->step->argv.n - 1];
}

/* The job went wrong: say which, how, and show the end of what it printed. */
static void task_failed(struct task *t, const char *how)
{
	struct box *b = t->box;
	struct err err;
	char safe[400];
	const char *end = t->tail;

	log_warn("setup: %s", how);
	if (t->background || !t->job) {
		task_free(b->setup, t);
		return;
	}
	if (t->job->kind == JOB_EXEC) {
		err_set(&err, ERR_USER, "kit %s: step \"%.120s\" failed (%s)", t->job->what,
			step_name(t->job), how);
		if (t->tail_len > sizeof(safe) / 2)
			end = t->tail + t->tail_len - sizeof(safe) / 2;
		if (t->tail_len)
			err_hint(&err, "it printed: %s",
				log_safe(safe, sizeof(safe), end,
					t->tail_len - (size_t)(end - t->tail)));
		else
			err_hint(&err, "hutch logs %s", b->name);
	} else {
		err_set(&err, ERR_ENV, "kit %s: files could not be copied: %s", t->job->what, how);
	}
	task_free(b->setup, t);
	box_setup_done(b, &err);
}

static void task_succeeded(struct task *t)
{
	struct box *b = t->box;
	bool wait = !t->background;

	task_free(b->setup, t);
	if (wait)
		next_job(b);
}

static void task_output(struct task *t, struct rd *r)
{
	size_t n = rd_left(r);
	const char *p = (const char *)rd_bytes(r, n);
	struct setup *u = t->box->setup;

	if (t->log >= 0 && u->log_written + n <= LOG_MAX) {
		u->log_written += n;
		if (fd_write_all(t->log, p, n) < 0)
			log_limited(LOG_WARN, "setup log: write failed");
	}
	if (n >= TAIL_MAX) {
		p += n - TAIL_MAX;
		n = TAIL_MAX;
	}
	if (t->tail_len + n > TAIL_MAX) {
		size_t drop = t->tail_len + n - TAIL_MAX;

		memmove(t->tail, t->tail + drop, t->tail_len - drop);
		t->tail_len -= drop;
	}
	memcpy(t->tail + t->tail_len, p, n);
	t->tail_len += n;
}

static int on_frame(struct stream *s, uint8_t type, struct rd r)
{
	struct task *t = container_of(s, struct task, s);
	_free_ char *text = NULL;
	uint32_t code, sig, starved;
	char how[300];

	switch (type) {
	case AGENT_STARTED:
		return 0;
	case AGENT_STDOUT:
	case AGENT_STDERR:
		task_output(t, &r);
		return 0;
	case AGENT_EXIT:
		if (agent_get_exit(r, &code, &sig, &starved) < 0)
			return -1;
		snprintf(how, sizeof(how), sig ? "signal %u" : "exit %u", sig ? sig : code);
		if (starved)
			snprintf(how, sizeof(how), "out of memory; --memory SIZE makes a larger sandbox");
		if (sig || code)
			task_failed(t, how);
		else
			task_succeeded(t);
		return 1;
	case AGENT_DONE:
		task_succeeded(t);
		return 1;
	case AGENT_ERROR:
		if (agent_get_error(r, &code, &text) < 0)
			return -1;
		log_safe(how, sizeof(how), text, strlen(text));
		task_failed(t, how);
		return 1;
	default:
		return -1;
	}
}

/* Feed the PUT stream: entries, then their data, never far ahead of what was sent. */
static void put_more(struct stream *s)
{
	struct task *t = container_of(s, struct task, s);
	uint8_t chunk[AGENT_DATA_MAX];

	while (!t->done && buf_len(&s->out) < PUT_LOW_MARK) {
		const struct item *it;

		if (t->left && t->content) {
			size_t n = MIN(t->left, (uint64_t)AGENT_DATA_MAX);

			agent_put(&s->out, AGENT_DATA, t->content, n);
			t->content += n;
			t->left -= n;
			continue;
		}
		if (t->left) {
			size_t want = MIN(t->left, (uint64_t)sizeof(chunk));
			ssize_t n = read(t->file, chunk, want);

			if (n <= 0) { /* it shrank under us */
				t->done = true;
				t->why = "a file changed while it was copied";
				shutdown(s->fd, SHUT_RDWR); /* on_end follows */
				return;
			}
			agent_put(&s->out, AGENT_DATA, chunk, (size_t)n);
			t->left -= (uint64_t)n;
			continue;
		}
		close_and_reset(&t->file);
		if (t->at == t->job->n_items) {
			agent_put(&s->out, AGENT_END, NULL, 0);
			t->done = true;
			return;
		}
		it = &t->job->items[t->at++];
		agent_put_entry(&s->out, &it->e);
		t->content = it->content;
		t->left = it->e.size;
		if (it->source)
			t->file = open(it->source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	}
}

static void on_end(struct stream *s)
{
	struct task *t = container_of(s, struct task, s);

	task_failed(t, t->why ? t->why : "the guest closed the stream");
}

static const struct stream_ops exec_ops = {.frame = on_frame, .end = on_end};
static const struct stream_ops put_ops = {.frame = on_frame, .drained = put_more, .end = on_end};

static struct task *task_start(struct box *b, struct job *j, const char *log_name, struct err *err)
{
	struct task *t;
	int fd;

	if (workers_open_stream(b, &fd, err) < 0)
		return NULL;
	t = xcalloc(1, sizeof(*t));
	t->box = b;
	t->job = j;
	t->file = -1;
	t->log = openat(b->dir_fd, log_name,
		O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (stream_open(&t->s, b->loop, fd, j && j->kind == JOB_PUT ? &put_ops : &exec_ops) < 0) {
		err_errno(err, "watch stream");
		close_and_reset(&t->log);
		free(t);
		return NULL;
	}
	t->next = b->setup->tasks;
	b->setup->tasks = t;
	return t;
}

static void exec_request(struct task *t, const struct strv *argv, const char *user,
	const char *cwd, const struct spec_step *step /* or NULL */)
{
	struct agent_exec e = {.flags = step && step->bounded ? AGENT_EXEC_BOUNDED : 0,
		.user = xstrdup(user),
		.cwd = xstrdup(cwd),
		.argv = *argv,
		.env = step ? step->env : (struct strv){0}};

	agent_put_exec(&t->s.out, &e);
	agent_put(&t->s.out, AGENT_STDIN_EOF, NULL, 0);
	free(e.user);
	free(e.cwd);
	if (t->s.out.failed)
		t->why = "the command is too long for the guest's agent";
	stream_flush(&t->s);
}

/* One of Hutch's own, which may be there to make the working directory. */
static bool is_preparation(const struct box *b, const struct spec_step *step)
{
	for (size_t i = 0; i < b->spec.n_prepare; i++)
		if (step == &b->spec.prepare[i])
			return true;
	return false;
}

static void run_exec(struct box *b, struct job *j)
{
	struct err err;
	struct task *t;

	if (j->step->kit[0] && (j->step->description[0] || !j->step->background))
		control_progress(b, "kit %s: %s", j->what, step_name(j));
	t = task_start(b, j, "setup.log", &err);
	if (!t) {
		box_setup_done(b, &err);
		return;
	}
	t->background = j->step->background;
	exec_request(t, &j->step->argv, j->step->user,
		is_preparation(b, j->step) ? "/" : b->spec.workdir, j->step);
	if (j->step->background)
		next_job(b);
}

static void run_put(struct box *b, struct job *j)
{
	struct err err;
	struct task *t = task_start(b, j, "setup.log", &err);

	if (!t) {
		box_setup_done(b, &err);
		return;
	}
	agent_put(&t->s.out, AGENT_PUT, NULL, 0);
	stream_flush(&t->s);
}

static void end_phase(struct box *b)
{
	struct err err;

	b->setup->phase_ends = true;
	if (workers_end_install(b, &err) < 0)
		box_setup_done(b, &err);
}

void setup_phase_ended(struct box *b)
{
	if (!b->setup || !b->setup->phase_ends)
		return;
	b->setup->phase_ends = false;
	next_job(b);
}

void setup_phase_failed(struct box *b, const char *why)
{
	struct err err;

	if (!b->setup || !b->setup->phase_ends)
		return;
	err_set(&err, ERR_ENV, "the network rules of the installation could not be ended: %s", why);
	box_setup_done(b, &err);
}

static void next_job(struct box *b)
{
	struct setup *u = b->setup;
	struct err err;
	struct job *j;

	if (b->state != BOX_SETUP)
		return;
	if (u->at == u->n_jobs) {
		if (u->first_start &&
			spec_note_set_up(b->dir_fd, &b->spec, &err) < 0)
			box_setup_done(b, &err);
		else
			box_setup_done(b, NULL);
		return;
	}
	j = &u->jobs[u->at++];
	if (j->kind == JOB_KEEP)
		keep_start(b, next_job);
	else if (j->kind == JOB_PHASE)
		end_phase(b);
	else if (j->kind == JOB_EXEC)
		run_exec(b, j);
	else
		run_put(b, j);
}

void setup_start(struct box *b)
{
	const struct box_spec *s = &b->spec;
	struct setup *u = xcalloc(1, sizeof(*u));
	struct err err;

	b->setup = u;
	u->first_start = !spec_is_set_up(b->dir_fd, s);
	add_steps(b, s->prepare, s->n_prepare);
	if (u->first_start) {
		if (!b->installed &&
			add_trees(b, s->home_trees, s->n_home_trees, &err) < 0)
			goto fail;
		if (!b->installed)
			add_steps(b, s->install, s->n_install);
		/* Before anything that is not an install step, or outlives them, runs. */
		if (b->phase == SPEC_INSTALL)
			add_job(b->setup, JOB_PHASE, "");
		if (b->keep)
			add_keep(b);
	}
	add_files(b, u->first_start);
	if (u->first_start) {
		if (brings_workspace(s) &&
			add_trees(b, s->workspace_trees, s->n_workspace_trees, &err) < 0)
			goto fail;
	}
	add_steps(b, s->startup, s->n_startup);
	next_job(b);
	return;
fail:
	box_setup_done(b, &err);
}

int setup_detach(struct box *b, const struct strv *argv, struct err *err)
{
	struct task *t = task_start(b, NULL, "agent.log", err);

	if (!t)
		return -1;
	t->background = true;
	exec_request(t, argv, b->spec.user, b->spec.workdir, NULL);
	return 0;
}

void setup_free(struct box *b)
{
	struct setup *u = b->setup;

	keep_stop(b);
	if (!u)
		return;
	while (u->tasks)
		task_free(u, u->tasks);
	for (size_t i = 0; i < u->n_jobs; i++) {
		for (size_t k = 0; k < u->jobs[i].n_items; k++) {
			free(u->jobs[i].items[k].source);
			agent_entry_done(&u->jobs[i].items[k].e);
		}
		free(u->jobs[i].items);
	}
	free(u->jobs);
	free(u);
	b->setup = NULL;
}

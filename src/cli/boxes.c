/* SPDX-License-Identifier: Apache-2.0 */
/* The sandboxes of this user. */
#include "cli/boxes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/child.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "cli/box_trees.h"
#include "cli/cache_key.h"
#include "cli/holder.h"
#include "cli/interrupt.h"
#include "cli/proxies.h"
#include "kit/kit.h"
#include "wire/agent.h"

#define SPEC_MAX     (16u << 20)
#define STARTS_MAX   4
#define LINE_BYTES   (64u << 10)
#define SWEEP_SECONDS 600
#define SPACE_MIN     (8u << 20)

char *boxes_path(const char *name, const char *file)
{
	_free_ char *boxes = path_state("boxes", NULL);

	return boxes ? xasprintf("%s/%s%s%s", boxes, name, *file ? "/" : "", file) : xstrdup("");
}

bool boxes_exists(const char *name)
{
	_free_ char *path = boxes_path(name, "spec.json");

	return spec_name_valid(name) && fs_exists(path);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int boxes_names(struct strv *ret, struct err *err)
{
	_free_ char *boxes = path_state("boxes", err);
	struct dirent *d;
	DIR *dir;

	if (!boxes)
		return -1;
	dir = opendir(boxes);
	if (!dir)
		return err_errno(err, "%s", boxes);
	while ((d = readdir(dir)))
		if (boxes_exists(d->d_name))
			strv_add(ret, d->d_name);
	closedir(dir);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	return 0;
}

int boxes_spec(const char *name, struct box_spec *ret, struct err *err)
{
	_free_ char *path = boxes_path(name, "spec.json");
	_buf_ struct buf text;
	json_error_t jerr;
	json_t *j;
	int result;

	*ret = (struct box_spec){0};
	buf_init(&text, SPEC_MAX);
	if (!boxes_exists(name)) {
		err_set(err, ERR_USER, "no sandbox named %s", name);
		return err_hint(err, "hutch ls");
	}
	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return -1;
	j = json_loads(buf_cstr(&text), JSON_REJECT_DUPLICATES, &jerr);
	if (!j)
		return err_set(err, ERR_ENV, "%s: line %d: %s", path, jerr.line, jerr.text);
	result = spec_from_json(j, ret, err);
	json_decref(j);
	if (result == 0 || !err)
		return result;
	if (spec_err_is_skew(err))
		err_wrap(err, "sandbox %s was made by another version of hutch: spec.json", name);
	else
		err_wrap(err, "%s", path);
	return err_hint(err, "hutch rm -f %s, and make it anew", name);
}

/* spec.json: @s with the key of its disk after the install steps, where that is to be kept. */
static char *spec_text(const char *tmp, const struct box_spec *s, bool cache, struct err *err)
{
	json_t *j = spec_to_json(s);
	char key[65] = "", *text;

	for (size_t i = 0; i < s->n_mounts; i++)
		cache = cache && !s->mounts[i].kit; /* steps may fill a folder that is not on the disk */
	if (j && cache && s->n_install && cache_key(tmp, s, key, err) < 0) {
		json_decref(j);
		return NULL;
	}
	if (j)
		json_object_set_new(j, "cache_key", json_string(key));
	text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!text)
		err_set(err, ERR_BUG, "the specification cannot be encoded");
	return text;
}

static int fill_dir(const char *tmp, const struct box_spec *s, bool cache, struct err *err)
{
	_close_ int dir = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC), files = -1;
	_free_ char *text = NULL;

	if (dir < 0 || mkdirat(dir, "files", 0700) < 0)
		return err_errno(err, "%s", tmp);
	files = openat(dir, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files < 0)
		return err_errno(err, "%s/files", tmp);
	if (box_trees_copy(files, s->home_trees, s->n_home_trees, err) < 0 ||
		box_trees_copy(files, s->workspace_trees, s->n_workspace_trees, err) < 0)
		return -1;
	text = spec_text(tmp, s, cache, err);
	if (!text)
		return -1;
	return fs_write_file(dir, "spec.json", text, strlen(text), 0600, err);
}

/* Without room for its logs and its disk a sandbox would see I/O errors at best. */
static int check_space(const char *boxes, struct err *err)
{
	struct statvfs st;

	if (statvfs(boxes, &st) < 0 || (uint64_t)st.f_bavail * st.f_frsize >= SPACE_MIN)
		return 0;
	errno = ENOSPC;
	err_errno(err, "%s", boxes);
	return err_hint(err, "free some, or have XDG_STATE_HOME name another disk");
}

/* Directories of commands that were killed: ".NAME.PID", whose process is no more. */
static void sweep(const char *boxes)
{
	DIR *dir = opendir(boxes);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		const char *dot = strrchr(d->d_name, '.');
		struct stat st;
		int pid;

		if (d->d_name[0] != '.' || dot == d->d_name || sscanf(dot, ".%d", &pid) != 1 ||
			pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		/* A process of another container may be the one: let it finish. */
		if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			time(NULL) - st.st_mtime > SWEEP_SECONDS)
			fs_remove_tree(dirfd(dir), d->d_name, NULL);
	}
	if (dir)
		closedir(dir);
}

int boxes_create(const struct box_spec *s, bool cache, struct err *err)
{
	_free_ char *boxes = path_state("boxes", err), *tmp = NULL, *path = NULL;
	int result;

	if (!boxes)
		return -1;
	sweep(boxes);
	if (check_space(boxes, err) < 0)
		return -1;
	/* A leading dot: never a sandbox name, so a crash leaves nothing that ls or run would see. */
	tmp = xasprintf("%s/.%s.%d", boxes, s->name, (int)getpid());
	path = xasprintf("%s/%s", boxes, s->name);
	if (mkdir(tmp, 0700) < 0)
		return err_errno(err, "%s", tmp);
	result = fill_dir(tmp, s, cache, err);
	if (result == 0 && rename(tmp, path) < 0) {
		bool taken = errno == ENOTEMPTY || errno == EEXIST;

		result = err_errno(err, "%s", path);
		if (taken) {
			err_set(err, ERR_USER, "the name %s is taken", s->name);
			err_hint(err, "hutch rm %s, or choose another with --name", s->name);
			err->errnum = EEXIST;
		}
	}
	if (result < 0)
		fs_remove_tree(AT_FDCWD, tmp, NULL);
	return result;
}

int boxes_save_spec(const struct box_spec *s, struct err *err)
{
	_free_ char *path = boxes_path(s->name, "spec.json"), *text = NULL;
	json_t *j = spec_to_json(s);

	text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!text)
		return err_set(err, ERR_BUG, "the specification cannot be encoded");
	return fs_write_file(AT_FDCWD, path, text, strlen(text), 0600, err);
}

/* Hold off supervisors: one that is about to start may be without a socket yet, one that has just
 * answered needs a moment to end. 0 with the lock in *ret_fd, -1 there when there is no sandbox. */
int boxes_lock(const char *name, int *ret_fd, struct err *err)
{
	_free_ char *path = boxes_path(name, "lock");
	struct timespec pause = {.tv_nsec = 20000000};
	_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i == 100) {
			err_set(err, ERR_USER, "sandbox %s is being started", name);
			return err_hint(err, "hutch rm -f %s", name);
		}
		nanosleep(&pause, NULL);
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* A supervisor that was killed leaves its sockets. */
static void remove_sockets(const char *name)
{
	_free_ char *noted = holder_socket(name), *runtime = path_runtime(NULL);
	_free_ char *sock = xasprintf("%s/%s.sock", runtime ? runtime : "", name);

	for (char **at = (char *[]){sock, noted, NULL}; *at; at++) {
		size_t len = strlen(*at);

		if (len < 5 || strcmp(*at + len - 5, ".sock") != 0)
			continue;
		unlink(*at);
		memcpy(*at + len - 5, ".net", 5);
		unlink(*at);
	}
}

int boxes_delete(const char *name, struct err *err)
{
	_free_ char *boxes = path_state("boxes", err), *path = boxes_path(name, ""), *tmp = NULL;
	_close_ int lock = -1;

	if (!boxes || boxes_lock(name, &lock, err) < 0)
		return -1;
	remove_sockets(name);
	/* In one step: a crash leaves no half of it that would have the name. */
	tmp = xasprintf("%s/.%s.%d", boxes, name, (int)getpid());
	fs_remove_tree(AT_FDCWD, tmp, NULL);
	if (rename(path, tmp) < 0)
		return errno == ENOENT ? 0 : err_errno(err, "%s", path);
	return fs_remove_tree(AT_FDCWD, tmp, err);
}

void box_conn_close(struct box_conn *c)
{
	close_and_reset(&c->fd);
	buf_done(&c->in);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(addr.sun_path))
		return -1;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -1 : steal_fd(&fd);
}

int box_connect(const char *name, struct box_conn *ret, struct err *err)
{
	_free_ char *runtime = path_runtime(NULL), *noted = NULL, *path = NULL;
	_close_ int fd = -1;

	*ret = (struct box_conn){.fd = -1};
	path = xasprintf("%s/%s.sock", runtime ? runtime : "", name);
	if (runtime)
		fd = connect_to(path);
	if (fd < 0)
		noted = holder_socket(name);
	if (noted && strcmp(noted, path) != 0)
		fd = connect_to(noted);
	if (fd < 0) {
		err_set(err, ERR_USER, "sandbox %s is not running", name);
		if (err)
			err->errnum = ENOENT;
		return -1;
	}
	ret->fd = steal_fd(&fd);
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	buf_init(&ret->in, LINE_BYTES);
	return 0;
}

/* Start hutch-box and wait for its word. */
static int start_supervisor(const char *name, struct err *err)
{
	_free_ char *path = path_program("hutch-box"), *boxes = path_state("boxes", err);
	_close_ int rd = -1;
	_buf_ struct buf word;
	struct strv env = {0};
	struct child child;
	char **argv = ARGV("hutch-box", name), *line, *nl;
	int pipefd[2], spawned;

	buf_init(&word, 4096);
	if (!boxes || check_space(boxes, err) < 0)
		return -1;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	rd = pipefd[0];
	if (proxies_environment(&env, err) < 0) {
		close(pipefd[1]);
		return -1;
	}
	spawned = child_spawn(&(struct child_spec){.path = path,
				.argv = argv,
				.envp = env.v,
				.in = CHILD_NULL,
				.out = CHILD_NULL,
				.errout = CHILD_NULL,
				.fds = &pipefd[1],
				.nfds = 1,
				.keep_group = true, /* a leader could not leave the session */
				.outlive_parent = true},
		&child, err);
	strv_done(&env);
	close(pipefd[1]);
	if (spawned < 0)
		return -1;
	close(child.pidfd);
	while (buf_read(&word, rd, 4096) > 0)
		;
	line = buf_cstr(&word);
	if (strncmp(line, "ok\n", 3) == 0)
		return 0;
	nl = strchr(line, '\n');
	if (!nl)
		return err_set(err, ERR_BUG, "the supervisor of %s died at its start", name);
	*nl = '\0';
	err_set(err, ERR_ENV, "%s", line);
	line = nl + 1;
	nl = strchr(line, '\n');
	if (nl)
		*nl = '\0';
	return err_hint(err, "%s", line);
}

static int connect_or_start(const char *name, struct box_conn *ret, struct err *err)
{
	struct timespec pause = {.tv_nsec = 20000000};

	if (box_connect(name, ret, NULL) == 0)
		return 0;
	for (int i = 0; i < 100; i++) {
		if (start_supervisor(name, err) == 0)
			return box_connect(name, ret, err);
		/* Somebody else is starting or ending it at this moment: look again. */
		if (!strstr(err->msg, "is running already"))
			return -1;
		nanosleep(&pause, NULL);
		if (box_connect(name, ret, NULL) == 0)
			return 0;
	}
	err_set(err, ERR_ENV, "sandbox %s runs, but its control socket is gone", name);
	return err_hint(err, "to end it: hutch stop %s, or hutch rm -f %s", name, name);
}

int box_find(const char *name, struct box_conn *ret, struct err *err)
{
	struct timespec pause = {.tv_nsec = 20000000};

	for (int i = 0; i < 100; i++) {
		if (box_connect(name, ret, err) == 0)
			return 1;
		if (!holder_exists(name))
			return 0;
		nanosleep(&pause, NULL); /* it starts or ends at this moment */
	}
	return -1;
}

/* A line that has arrived as a whole, as JSON; NULL with *ret_line false when there is none yet. */
static json_t *buffered_line(struct box_conn *c, bool *ret_line)
{
	char *nl = buf_len(&c->in) ? memchr(buf_head(&c->in), '\n', buf_len(&c->in)) : NULL;
	size_t len;
	json_t *j;

	*ret_line = nl != NULL;
	if (!nl)
		return NULL;
	len = (size_t)(nl + 1 - (char *)buf_head(&c->in));
	*nl = '\0';
	j = json_loads((char *)buf_head(&c->in), 0, NULL);
	buf_consume(&c->in, len);
	return j;
}

/* More bytes, and the first descriptor that comes along. */
static int receive_some(struct box_conn *c, int *ret_fd, struct err *err)
{
	int fds[FD_PASS_MAX];
	size_t nfds;
	ssize_t n;

	if (!buf_reserve(&c->in, 4096))
		return err_set(err, ERR_PEER, "the supervisor's answer is too long");
	if (interrupt_wait(c->fd) < 0)
		return err_set(err, ERR_USER, "interrupted");
	n = fd_recv(c->fd, c->in.data + c->in.len, 4096, fds, &nfds);
	if (n <= 0)
		return err_set(err, ERR_PEER, "the supervisor went away");
	buf_commit(&c->in, (size_t)n);
	for (size_t i = 0; i < nfds; i++) {
		if (*ret_fd < 0)
			*ret_fd = fds[i];
		else
			close(fds[i]);
	}
	return 0;
}

/* The next line as JSON, with a descriptor when one came along. */
static json_t *next_line(struct box_conn *c, int *ret_fd, struct err *err)
{
	*ret_fd = -1;
	for (;;) {
		bool line;
		json_t *j = buffered_line(c, &line);

		if (line && !j)
			err_set(err, ERR_PEER, "the supervisor sent no JSON");
		if (line)
			return j;
		if (receive_some(c, ret_fd, err) < 0)
			return NULL;
	}
}

char *box_next_event(struct box_conn *c, bool *ret_gone)
{
	_close_ int fd = -1;
	bool line;
	json_t *j = buffered_line(c, &line);
	const char *text, *event;
	char *ret;

	*ret_gone = false;
	if (!line) {
		*ret_gone = receive_some(c, &fd, NULL) < 0;
		j = buffered_line(c, &line);
	}
	text = json_string_value(json_object_get(j, "text"));
	event = json_string_value(json_object_get(j, "event"));
	ret = text && event && strcmp(event, "question") == 0 ? xstrdup(text) : NULL;
	json_decref(j);
	return ret;
}

/* A sandbox that ran on while Hutch was replaced. */
static int other_version(const struct box_conn *c, struct err *err)
{
	err_set(err, ERR_ENV, "sandbox %s was started by another version of hutch", c->name);
	return err_hint(err, "hutch stop %s && hutch start %s", c->name, c->name);
}

/* 0 when the answer says ok, else its error. */
static int check(const struct box_conn *c, const json_t *j, struct err *err)
{
	const char *text = json_string_value(json_object_get(j, "error"));
	const char *hint = json_string_value(json_object_get(j, "hint"));

	if (json_is_true(json_object_get(j, "ok")))
		return 0;
	if (text && strcmp(text, "unknown request") == 0)
		return other_version(c, err);
	err_set(err, ERR_ENV, "%s", text ? text : "the supervisor gave no reason");
	err_hint(err, "%s", hint ? hint : "");
	if (err && json_is_true(json_object_get(j, "again")))
		err->errnum = EAGAIN;
	return -1;
}

static int send_line(struct box_conn *c, json_t *request, int fd, struct err *err)
{
	_free_ char *text = json_dumps(request, JSON_COMPACT), *line = NULL;

	json_decref(request);
	if (!text)
		return err_set(err, ERR_BUG, "a request cannot be encoded");
	line = xasprintf("%s\n", text);
	if (fd_send(c->fd, line, strlen(line), &fd, fd >= 0) != (ssize_t)strlen(line))
		return err_set(err, ERR_PEER, "the supervisor went away");
	return 0;
}

int box_request(struct box_conn *c, json_t *request, json_t **ret_answer, int *ret_fd, struct err *err)
{
	_close_ int fd = -1;
	json_t *j;
	int result;

	if (send_line(c, request, -1, err) < 0)
		return -1;
	while ((j = next_line(c, &fd, err)) && json_object_get(j, "event"))
		json_decref(j); /* of somebody who watches */
	if (!j)
		return -1;
	result = check(c, j, err);
	if (result == 0 && ret_fd && fd < 0)
		result = err_set(err, ERR_PEER, "the supervisor's answer lacks a descriptor");
	if (result == 0 && ret_fd)
		*ret_fd = steal_fd(&fd);
	if (result == 0 && ret_answer)
		*ret_answer = json_incref(j);
	json_decref(j);
	return result;
}

int box_open(struct box_conn *c, int *ret_fd, struct err *err)
{
	json_t *answer;
	_close_ int fd = -1;
	bool same;

	if (box_request(c, json_pack("{s:s, s:i}", "op", "open", "agent", AGENT_VERSION), &answer, &fd, err) < 0)
		return -1;
	same = json_integer_value(json_object_get(answer, "agent")) == AGENT_VERSION;
	json_decref(answer);
	if (!same)
		return other_version(c, err);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int box_pass(struct box_conn *c, json_t *request, int fd, struct err *err)
{
	_close_ int ignored = -1;
	json_t *j;
	int result;

	if (send_line(c, request, fd, err) < 0)
		return -1;
	j = next_line(c, &ignored, err);
	result = j ? check(c, j, err) : -1;
	json_decref(j);
	return result;
}

/* Wait for the final word: 1 ready, 0 it ended in good order, -1 it failed. */
static int wait_ready(struct box_conn *c, void (*progress)(const char *text), struct err *err)
{
	if (send_line(c, json_pack("{s:s}", "op", "wait"), -1, err) < 0)
		return -1;
	for (;;) {
		_close_ int fd = -1;
		json_t *j = next_line(c, &fd, err);
		const char *event = json_string_value(json_object_get(j, "event"));
		int result;

		if (!j)
			return -1;
		if (event) {
			const char *text = json_string_value(json_object_get(j, "text"));

			if (progress && text)
				progress(text);
			json_decref(j);
			continue;
		}
		result = check(c, j, err);
		if (result == 0) {
			const char *state = json_string_value(json_object_get(j, "state"));

			result = state && strcmp(state, "ready") == 0;
		}
		json_decref(j);
		return result;
	}
}

int box_up(const char *name, bool hold, void (*progress)(const char *text), struct box_conn *ret,
	struct err *err)
{
	for (int i = 0; i < STARTS_MAX; i++) {
		int result;

		if (connect_or_start(name, ret, err) < 0)
			return -1;
		result = hold ? box_request(ret, json_pack("{s:s}", "op", "hold"), NULL, NULL, err) : 0;
		if (result == 0)
			result = wait_ready(ret, progress, err);
		if (result == 1)
			return 0;
		box_conn_close(ret);
		/* ERR_PEER: we met a supervisor in the moment of its end. */
		if (result < 0 && err->errnum != EAGAIN && err->class != ERR_PEER)
			return -1;
		if (result < 0 && err->errnum == EAGAIN && i + 1 < STARTS_MAX && progress)
			progress("the virtual machine hung at its start; trying again");
		else if (result == 0)
			err_set(err, ERR_ENV, "sandbox %s stops whenever it starts", name);
	}
	return -1;
}

int box_up_open(const char *name, void (*progress)(const char *text), struct box_conn *ret, int *ret_fd,
	struct err *err)
{
	for (int i = 0; i < STARTS_MAX; i++) {
		if (box_up(name, false, progress, ret, err) < 0)
			return -1;
		if (box_open(ret, ret_fd, err) == 0)
			return 0;
		box_conn_close(ret);
		if (err->errnum != EAGAIN && err->class != ERR_PEER)
			return -1;
	}
	return -1;
}

int box_end(const char *name, bool kill, bool remove, struct err *err)
{
	struct box_conn c;
	int result = box_find(name, &c, err);

	if (result == 0)
		return 0;
	if (result < 0) /* it cannot be asked */
		return holder_kill(name, err);
	result = box_request(&c,
		json_pack("{s:s, s:b, s:b}", "op", "stop", "kill", kill, "remove", remove), NULL,
		NULL, err);
	/* A supervisor that was killed meanwhile has ended too. */
	if (result < 0 && err->class == ERR_PEER)
		result = 0;
	box_conn_close(&c);
	return result;
}

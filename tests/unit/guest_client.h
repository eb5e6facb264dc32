/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the agent server: runs it in a process of its own, and speaks the host's side of the
 * protocol with blocking I/O. Include after cmocka.h. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "guest/init.h"
#include "guest/server.h"

/* Generous: the sanitizer build on a busy machine. */
#define PATIENCE_MS 120000

struct guest {
	char root[64]; /* scratch directory: etc/passwd, home */
	int adopt;     /* sends descriptors to the server */
	pid_t pid;
};

/* ── the server's process ─────────────────────────────────────────────────────────────────── */

struct host_process {
	struct loop *loop;
	struct server *srv;
	struct loop_watch adopt_w, signal_w;
};

static void guest_on_adopt(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct host_process *h = container_of(w, struct host_process, adopt_w);
	int fds[FD_PASS_MAX];
	size_t n;
	char byte;

	(void)events;
	if (fd_recv(w->fd, &byte, 1, fds, &n) <= 0)
		loop_stop(l, 0);
	else if (n)
		server_adopt(h->srv, fds[0]);
}

static void guest_on_signal(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct host_process *h = container_of(w, struct host_process, signal_w);
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	(void)l;
	(void)events;
	if (read(w->fd, &si, sizeof(si)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		server_reaped(h->srv, pid, status);
}

static int guest_serve(const char *root, int adopt)
{
	struct host_process h = {0};
	struct strv env = {0};
	struct server_config config = {.root = root, .env = &env};
	struct err err = {0};
	sigset_t set;
	int result;

	strv_add(&env, "FROM_SETUP=setup");
	strv_add(&env, "BOTH=setup");
	strv_add(&env, "NAMED=named");
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	h.loop = loop_new(&err);
	h.srv = server_new(h.loop, &config);
	loop_add(h.loop, &h.adopt_w, adopt, EPOLLIN, guest_on_adopt);
	loop_add(h.loop, &h.signal_w, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), EPOLLIN,
		guest_on_signal);
	result = loop_run(h.loop, &err);
	server_free(h.srv);
	close(h.signal_w.fd);
	loop_free(h.loop);
	strv_done(&env);
	return result;
}

/* ── set-up ───────────────────────────────────────────────────────────────────────────────── */

static void guest_write(const struct guest *g, const char *name, const char *text)
{
	_free_ char *path = xasprintf("%s/%s", g->root, name);

	assert_int_equal(fs_write_file(AT_FDCWD, path, text, strlen(text), 0644, NULL), 0);
}

static void guest_mkdir(const struct guest *g, const char *name)
{
	_free_ char *path = xasprintf("%s/%s", g->root, name);

	assert_int_equal(fs_mkdirs(path, 0755, NULL), 0);
}

static int guest_setup(void **state)
{
	struct guest *g = xcalloc(1, sizeof(*g));
	_free_ char *passwd = NULL;
	int pair[2];

	snprintf(g->root, sizeof(g->root), "/tmp/hutch-guest.XXXXXX");
	assert_non_null(mkdtemp(g->root));
	guest_mkdir(g, "etc");
	guest_mkdir(g, "home");
	passwd = xasprintf("root:x:0:0::/root:/bin/sh\nagent:x:%u:%u::%s/home:/bin/sh\n"
			   "homeless:x:%u:%u::/nonexistent:/bin/sh\n",
		getuid(), getgid(), g->root, getuid(), getgid());
	guest_write(g, "etc/passwd", passwd);
	guest_write(g, "etc/group", "root:x:0:\nagent:x:1000:\n");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	g->pid = fork();
	if (g->pid == 0) {
		int result;

		close(pair[0]);
		result = guest_serve(g->root, pair[1]);
		close(pair[1]);
		free(g);
		exit(result); /* not _exit: the leak checker runs */
	}
	close(pair[1]);
	g->adopt = pair[0];
	*state = g;
	return 0;
}

/* The server must end in an orderly way, without leaks. */
static int guest_teardown(void **state)
{
	struct guest *g = *state;
	int status = -1;

	close(g->adopt);
	waitpid(g->pid, &status, 0);
	fs_remove_tree(AT_FDCWD, g->root, NULL);
	free(g);
	return status == 0 ? 0 : -1;
}

/* ── one stream ───────────────────────────────────────────────────────────────────────────── */

struct talk {
	int fd;
	struct buf in;
	struct buf out, err; /* collected STDOUT and STDERR */
	uint32_t acked;
	uint32_t pid, code, sig, starved, errnum;
	char *text; /* of ERROR */
};

static struct talk talk_open(const struct guest *g)
{
	struct talk t = {0};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fd_send(g->adopt, "x", 1, &pair[1], 1), 1);
	close(pair[1]);
	t.fd = pair[0];
	buf_init(&t.in, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	buf_init(&t.out, 64u << 20);
	buf_init(&t.err, 1u << 20);
	return t;
}

static void talk_close(struct talk *t)
{
	close_and_reset(&t->fd);
	buf_done(&t->in);
	buf_done(&t->out);
	buf_done(&t->err);
	free(t->text);
	t->text = NULL;
}

static void talk_flush(struct talk *t, struct buf *b)
{
	assert_int_equal(fd_write_all(t->fd, buf_head(b), buf_len(b)), 0);
	buf_done(b);
}

static void talk_send(struct talk *t, enum agent_type type, const void *payload, size_t len)
{
	struct buf b;

	buf_init(&b, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	agent_put(&b, type, payload, len);
	talk_flush(t, &b);
}

static inline void talk_send_le32(struct talk *t, enum agent_type type, uint32_t v)
{
	uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};

	talk_send(t, type, le, sizeof(le));
}

/* @argv ends with NULL. */
static inline void talk_exec(
	struct talk *t, const char *const *argv, const char *user, const char *cwd, unsigned flags)
{
	struct agent_exec x = {.flags = flags, .rows = 24, .cols = 80};
	struct buf b;

	x.user = xstrdup(user);
	x.cwd = xstrdup(cwd);
	for (; *argv; argv++)
		strv_add(&x.argv, *argv);
	strv_add(&x.env, "BOTH=request");
	if (flags & AGENT_EXEC_BOUNDED) {
		strv_add(&x.env, "NAMED");
		strv_add(&x.env, "NOT_THERE");
	}
	buf_init(&b, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	agent_put_exec(&b, &x);
	agent_exec_done(&x);
	talk_flush(t, &b);
}

static inline void talk_shell(struct talk *t, const char *script, unsigned flags)
{
	talk_exec(t, (const char *const[]){"sh", "-c", script, NULL}, "", "", flags);
}

static void talk_store(struct talk *t, uint8_t type, struct rd r)
{
	size_t n = rd_left(&r);

	if (type == AGENT_STDOUT)
		buf_put(&t->out, r.p, n);
	else if (type == AGENT_STDERR)
		buf_put(&t->err, r.p, n);
	else if (type == AGENT_STDIN_ACK)
		t->acked += rd_le32(&r);
	else if (type == AGENT_STARTED)
		t->pid = rd_le32(&r);
	else if (type == AGENT_EXIT)
		assert_int_equal(agent_get_exit(r, &t->code, &t->sig, &t->starved), 0);
	else if (type == AGENT_ERROR)
		assert_int_equal(agent_get_error(r, &t->errnum, &t->text), 0);
}

/* The next frame's type with its content stored, 0 at the end of the stream, -1 after @wait_ms. */
static int talk_next(struct talk *t, int wait_ms)
{
	for (;;) {
		struct pollfd p = {.fd = t->fd, .events = POLLIN};
		struct rd r;
		uint8_t type;
		int got = agent_next(&t->in, &type, &r);
		ssize_t n;

		assert_int_not_equal(got, -1);
		if (got == 1) {
			talk_store(t, type, r);
			agent_consume(&t->in);
			return type;
		}
		if (poll(&p, 1, wait_ms) == 0)
			return -1;
		n = buf_read(&t->in, t->fd, AGENT_PAYLOAD_MAX);
		if (n <= 0)
			return 0;
	}
}

/* Collect frames until one of type @want (0: the end). */
static void talk_until(struct talk *t, int want)
{
	for (;;) {
		int type = talk_next(t, PATIENCE_MS);

		if (type == want)
			return;
		if (type <= 0)
			fail_msg("wanted frame %d, got %s; output \"%s\", error \"%s\"", want,
				type ? "nothing in time" : "the end", buf_cstr(&t->out),
				t->text ? t->text : "");
	}
}

/* Until the output holds @text. */
static inline void talk_until_output(struct talk *t, const char *text)
{
	while (!strstr(buf_cstr(&t->out), text)) {
		int type = talk_next(t, PATIENCE_MS);

		if (type <= 0 || type == AGENT_EXIT)
			fail_msg("waiting for \"%s\", output is \"%s\"", text, buf_cstr(&t->out));
	}
}

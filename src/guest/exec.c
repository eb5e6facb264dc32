/* SPDX-License-Identifier: Apache-2.0 */
/* EXEC: supervise one command and carry its streams.
 *
 * Life of a command:
 *   starting  forked; a close-on-exec pipe reports failure, its end means that the command runs.
 *             Frames are held back, so that no signal reaches our own half-made child.
 *   running   output goes to the host while the stream is not congested, input from the host to the
 *             command; what was written is acknowledged.
 *   draining  the command itself has ended. What it wrote is still delivered, however slowly the
 *             host reads. Others may hold the same pipes: EXIT is sent at the end of file, or after
 *             DRAIN_MS without data, or at the latest after DRAIN_MAX_MS, so that no background
 *             process can keep the session open.
 *   hung up   the stream ended first: SIGHUP to the process group, SIGKILL after KILL_MS.
 * The structure lives until the process is reaped and nothing of the above is left to do. */
#include "guest/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/init.h"

#define DRAIN_MS     250
#define DRAIN_MAX_MS 2000
#define KILL_MS      2000

struct output {
	int fd; /* owned; -1: ended */
	struct loop_watch w;
	enum agent_type type;
	size_t owed; /* bytes that were in the pipe when the command ended */
	struct exec *e;
};

struct exec {
	struct server *srv;
	struct exec *next;
	struct stream *s; /* owned; NULL: EXIT was sent or the host left */
	pid_t pid;        /* also the process group and the session */
	bool tty, started, reaped, killed;
	int status;
	int report_fd;
	struct loop_watch report_w;
	struct output out[2]; /* terminal: the first only, and it is the master */
	int in_fd;            /* owned; -1: closed. A terminal's is a duplicate of the master */
	struct loop_watch in_w;
	struct buf input; /* for in_fd */
	bool input_eof;
	char last_input; /* terminal: last byte written */
	uint32_t acks;   /* bytes to acknowledge */
	uint64_t drain_end_ns;
	struct loop_timer timer;
};

static void on_timer(struct loop *l, struct loop_timer *t);
static void on_input_room(struct loop *l, struct loop_watch *w, uint32_t events);

static void close_output(struct exec *e, struct output *o)
{
	loop_del(e->srv->loop, &o->w);
	close_and_reset(&o->fd);
	o->owed = 0;
}

static void close_input(struct exec *e)
{
	loop_del(e->srv->loop, &e->in_w);
	close_and_reset(&e->in_fd);
	e->acks += (uint32_t)buf_len(&e->input);
	buf_reset(&e->input);
}

static void exec_free(struct exec *e)
{
	struct exec **at = &e->srv->execs;

	while (*at && *at != e)
		at = &(*at)->next;
	if (*at)
		*at = e->next;
	loop_timer_stop(e->srv->loop, &e->timer);
	loop_del(e->srv->loop, &e->report_w);
	close_and_reset(&e->report_fd);
	close_output(e, &e->out[0]);
	close_output(e, &e->out[1]);
	close_input(e);
	buf_done(&e->input);
	stream_free(e->s);
	free(e);
}

static void flush_acks(struct exec *e)
{
	size_t mark;

	/* A host that does not read gets none, which bounds the buffer. */
	if (!e->s || !e->acks || stream_congested(e->s))
		return;
	mark = agent_frame_begin(&e->s->out, AGENT_STDIN_ACK);
	buf_put_le32(&e->s->out, e->acks);
	agent_frame_end(&e->s->out, mark);
	e->acks = 0;
	stream_flush(e->s);
}

/* Everything that the command wrote has been sent: its exit status is the last word. */
static void send_exit(struct exec *e)
{
	bool exited = WIFEXITED(e->status);
	uint32_t sig = exited ? 0 : (uint32_t)WTERMSIG(e->status);
	uint32_t code = exited ? (uint32_t)WEXITSTATUS(e->status) : 128 + sig;

	/* A shell ends with this code when its last command was killed. */
	agent_put_exit(&e->s->out, code, sig, code == 128 + SIGKILL ? pressure_kills() : 0);
	stream_finish(e->s);
	e->s = NULL;
	exec_free(e);
}

/* After any change: whether the command is over. May free @e. */
static void settle(struct exec *e)
{
	if (!e->reaped)
		return;
	if (!e->s) {
		/* A group that outlives its leader keeps its number, so the timer still hits it. */
		if (e->killed || kill(-e->pid, 0) < 0)
			exec_free(e);
		return;
	}
	if (e->out[0].fd < 0 && e->out[1].fd < 0)
		send_exit(e);
}

static void on_output(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct output *o = container_of(w, struct output, w);
	struct exec *e = o->e;
	static uint8_t chunk[AGENT_DATA_MAX];
	ssize_t n = read(o->fd, chunk, sizeof(chunk));

	(void)events;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) { /* a terminal that nobody has open any more says EIO */
		close_output(e, o);
		settle(e);
		return;
	}
	agent_put(&e->s->out, o->type, chunk, (size_t)n);
	stream_flush(e->s);
	o->owed -= MIN(o->owed, (size_t)n);
	if (e->reaped && loop_now(l) < e->drain_end_ns)
		loop_timer_start(l, &e->timer, DRAIN_MS, on_timer);
	if (stream_congested(e->s))
		for (size_t i = 0; i < ARRAY_SIZE(e->out); i++)
			loop_del(l, &e->out[i].w);
}

static void watch_outputs(struct exec *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(e->out); i++) {
		struct output *o = &e->out[i];

		if (o->fd >= 0 && o->w.fd < 0)
			loop_add(e->srv->loop, &o->w, o->fd, EPOLLIN, on_output);
	}
}

/* The end of input on a terminal is a character, where line editing is on. On a started line it
 * takes two: the first only ends the line. */
static void send_terminal_eof(struct exec *e)
{
	struct termios t;
	cc_t c[2];
	size_t n = e->last_input && e->last_input != '\n' && e->last_input != '\r' ? 2 : 1;

	if (tcgetattr(e->in_fd, &t) < 0 || !(t.c_lflag & ICANON))
		return;
	c[0] = c[1] = t.c_cc[VEOF];
	if (write(e->in_fd, c, n) < 0)
		return; /* full line buffer or no reader: nothing better to do */
}

/* Move input to the command as far as it takes it. */
static void feed(struct exec *e)
{
	while (e->in_fd >= 0 && buf_len(&e->input)) {
		size_t len = buf_len(&e->input);
		char last = (char)buf_head(&e->input)[len - 1];
		ssize_t n = buf_write(&e->input, e->in_fd);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (e->in_w.fd < 0)
				loop_add(e->srv->loop, &e->in_w, e->in_fd, EPOLLOUT, on_input_room);
			break;
		}
		if (n < 0) {
			close_input(e); /* the command does not want any more */
			break;
		}
		e->acks += (uint32_t)n;
		e->last_input = last;
	}
	if (e->in_fd >= 0 && !buf_len(&e->input)) {
		loop_del(e->srv->loop, &e->in_w);
		if (e->input_eof && e->tty)
			send_terminal_eof(e);
		if (e->input_eof)
			close_input(e);
	}
	flush_acks(e);
}

static void on_input_room(struct loop *l, struct loop_watch *w, uint32_t events)
{
	(void)l;
	(void)events;
	feed(container_of(w, struct exec, in_w));
}

static int take_input(struct exec *e, struct rd payload)
{
	size_t n = rd_left(&payload);

	if (e->input_eof || n + buf_len(&e->input) + e->acks > AGENT_STDIN_WINDOW)
		return -1;
	if (e->in_fd < 0) {
		e->acks += (uint32_t)n;
		flush_acks(e);
		return 0;
	}
	buf_put(&e->input, rd_bytes(&payload, n), n);
	feed(e);
	return 0;
}

static void send_signal(struct exec *e, int sig)
{
	pid_t group = e->pid;

	if (e->reaped)
		return;
	if (e->tty && e->out[0].fd >= 0) {
		pid_t front = tcgetpgrp(e->out[0].fd);

		group = front > 1 ? front : group;
	}
	kill(-group, sig);
}

static int take_resize(struct exec *e, struct rd payload)
{
	struct winsize size = {0};

	size.ws_row = rd_le16(&payload);
	size.ws_col = rd_le16(&payload);
	if (!rd_done(&payload))
		return -1;
	if (e->tty && e->out[0].fd >= 0)
		ioctl(e->out[0].fd, TIOCSWINSZ, &size);
	return 0;
}

static int exec_frame(struct stream *s, uint8_t type, struct rd payload)
{
	struct exec *e = s->owner;
	uint32_t sig;

	switch (type) {
	case AGENT_STDIN:
		return take_input(e, payload);
	case AGENT_STDIN_EOF:
		if (!rd_done(&payload))
			return -1;
		e->input_eof = true;
		feed(e);
		return 0;
	case AGENT_RESIZE:
		return take_resize(e, payload);
	case AGENT_SIGNAL:
		sig = rd_le32(&payload);
		if (!rd_done(&payload) || sig < 1 || sig >= NSIG)
			return -1;
		send_signal(e, (int)sig);
		return 0;
	default:
		return -1;
	}
}

static void exec_drained(struct stream *s)
{
	struct exec *e = s->owner;

	watch_outputs(e);
	flush_acks(e);
}

/* The host left: so must the command. */
static void hang_up(struct exec *e)
{
	if (!e->reaped) {
		send_signal(e, SIGHUP);
		kill(-e->pid, SIGHUP);
		kill(-e->pid, SIGCONT);
	}
	close_output(e, &e->out[0]); /* a terminal's master: hangs up the whole session */
	close_output(e, &e->out[1]);
	close_input(e);
	loop_timer_start(e->srv->loop, &e->timer, KILL_MS, on_timer);
	settle(e);
}

static void exec_end(struct stream *s)
{
	struct exec *e = s->owner;

	e->s = NULL;
	stream_free(s);
	hang_up(e);
}

static void on_timer(struct loop *l, struct loop_timer *t)
{
	struct exec *e = container_of(t, struct exec, timer);

	if (!e->s) {
		kill(-e->pid, SIGKILL);
		e->killed = true;
		settle(e);
		return;
	}
	if (e->out[0].owed || e->out[1].owed) {
		loop_timer_start(l, t, DRAIN_MS, on_timer);
		return;
	}
	send_exit(e);
}

static const struct stream_ops exec_ops = {
	.frame = exec_frame, .drained = exec_drained, .end = exec_end};

/* The child's report: a failure, or the end of file when it executes the command. May free @e. */
static void on_report(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct exec *e = container_of(w, struct exec, report_w);
	struct exec_report r = {0};
	ssize_t n = read(e->report_fd, &r, sizeof(r));
	size_t mark;

	(void)events;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	loop_del(l, &e->report_w);
	close_and_reset(&e->report_fd);
	e->started = true;
	if (n == (ssize_t)sizeof(r)) {
		struct stream *s = e->s;

		r.text[sizeof(r.text) - 1] = '\0';
		e->s = NULL;
		stream_fail(s, r.errnum, "%s", r.text);
		close_output(e, &e->out[0]);
		close_output(e, &e->out[1]);
		close_input(e);
		settle(e);
		return;
	}
	mark = agent_frame_begin(&e->s->out, AGENT_STARTED);
	buf_put_le32(&e->s->out, (uint32_t)e->pid);
	agent_frame_end(&e->s->out, mark);
	stream_flush(e->s);
	watch_outputs(e);
	stream_resume(e->s);
}

static void begin_drain(struct exec *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(e->out); i++) {
		int n = 0;

		if (e->out[i].fd >= 0 && ioctl(e->out[i].fd, FIONREAD, &n) == 0 && n > 0)
			e->out[i].owed = (size_t)n;
	}
	e->drain_end_ns = loop_now(e->srv->loop) + DRAIN_MAX_MS * 1000000ull;
	loop_timer_start(e->srv->loop, &e->timer, DRAIN_MS, on_timer);
}

void exec_reaped(struct server *srv, pid_t pid, int status)
{
	struct exec *e = srv->execs;

	while (e && (e->reaped || e->pid != pid))
		e = e->next;
	if (!e)
		return;
	e->reaped = true;
	e->status = status;
	if (!e->started) {
		/* Its report is complete now that it is dead. This may end the stream as well. */
		on_report(srv->loop, &e->report_w, 0);
		for (e = srv->execs; e && !(e->reaped && e->pid == pid); e = e->next)
			;
		if (!e)
			return;
	}
	if (e->s)
		begin_drain(e);
	settle(e);
}

static int open_terminal(const struct agent_exec *x, struct exec *e, struct exec_io *io)
{
	struct winsize size = {.ws_row = x->rows, .ws_col = x->cols};
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), unlock = 0;

	if (fd < 0)
		return -1;
	io->master = e->out[0].fd = fd;
	if (ioctl(fd, TIOCSPTLCK, &unlock) < 0 || ioctl(fd, TIOCSWINSZ, &size) < 0)
		return -1;
	e->in_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return e->in_fd < 0 ? -1 : 0;
}

static int open_pipe(int *ret_ours, int *ret_theirs, bool we_read)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	*ret_ours = we_read ? p[0] : p[1];
	*ret_theirs = we_read ? p[1] : p[0];
	return fd_set_nonblock(*ret_ours, true);
}

static int open_streams(const struct agent_exec *x, struct exec *e, struct exec_io *io)
{
	if (open_pipe(&e->report_fd, &io->report, true) < 0)
		return -1;
	if (e->tty)
		return open_terminal(x, e, io);
	if (open_pipe(&e->in_fd, &io->in, false) < 0 ||
		open_pipe(&e->out[0].fd, &io->out, true) < 0 ||
		open_pipe(&e->out[1].fd, &io->errout, true) < 0)
		return -1;
	return 0;
}

static struct exec *exec_new(struct server *srv, bool tty)
{
	struct exec *e = xcalloc(1, sizeof(*e));

	e->srv = srv;
	e->tty = tty;
	e->in_fd = e->report_fd = e->report_w.fd = e->in_w.fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(e->out); i++)
		e->out[i] = (struct output){.fd = -1, .w = {.fd = -1}, .e = e};
	e->out[0].type = AGENT_STDOUT;
	e->out[1].type = AGENT_STDERR;
	buf_init(&e->input, AGENT_STDIN_WINDOW);
	e->next = srv->execs;
	srv->execs = e;
	return e;
}

static int spawn(struct exec *e, const struct agent_exec *x)
{
	struct exec_io io = {.in = -1, .out = -1, .errout = -1, .master = -1, .report = -1};
	int result = open_streams(x, e, &io), errnum;

	if (result == 0) {
		e->pid = cgroup_fork();
		if (e->pid == 0)
			exec_child(&e->srv->config, x, &io);
		result = e->pid < 0 ? -1 : 0;
	}
	errnum = errno;
	close_and_reset(&io.in);
	close_and_reset(&io.out);
	close_and_reset(&io.errout);
	close_and_reset(&io.report);
	errno = errnum;
	return result;
}

int exec_start(struct server *srv, struct stream *s, struct rd payload)
{
	struct agent_exec x;
	struct exec *e;
	int errnum;

	if (agent_get_exec(payload, &x) < 0 || x.argv.n == 0) {
		agent_exec_done(&x);
		return stream_fail(s, EINVAL, "malformed command");
	}
	e = exec_new(srv, x.flags & AGENT_EXEC_TTY);
	if (spawn(e, &x) < 0 ||
		loop_add(srv->loop, &e->report_w, e->report_fd, EPOLLIN, on_report) < 0) {
		errnum = errno;
		agent_exec_done(&x);
		if (e->pid > 0)
			kill(e->pid, SIGKILL);
		exec_free(e);
		return stream_fail(s, errnum, "start command: %s", strerror(errnum));
	}
	agent_exec_done(&x);
	e->s = s;
	s->owner = e;
	s->ops = &exec_ops;
	stream_hold(s);
	return 0;
}

void execs_free(struct server *srv)
{
	while (srv->execs) {
		struct exec *e = srv->execs;

		if (!e->reaped && e->pid > 0)
			kill(-e->pid, SIGKILL);
		exec_free(e);
	}
}

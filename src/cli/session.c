/* SPDX-License-Identifier: Apache-2.0 */
/* One command in a sandbox, joined to this terminal or these pipes.
 *
 * The stream carries frames of wire/agent.h. Input is sent within the guest's window, so that a
 * signal or a window size never waits behind input that nobody reads. */
#include "cli/session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/notice.h"
#include "wire/agent.h"

/* So many signals, each so soon after the one before, end this program whatever the command does. */
#define URGED_TIMES 3u
#define URGED_MS    2000u

static struct termios saved_termios;
static bool termios_saved;

static void restore_terminal(void)
{
	if (termios_saved)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_termios);
	termios_saved = false;
}

static void raw_terminal(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &saved_termios) < 0)
		return;
	t = saved_termios;
	cfmakeraw(&t);
	termios_saved = true;
	atexit(restore_terminal);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
}

struct run {
	const struct session *s;
	struct box_conn *events; /* NULL: none, or gone */
	int fd, sigfd;
	struct buf in, out;
	size_t unacked;
	bool input_open, failed, refused, started, starved;
	int status; /* -1: still running */
	unsigned urged; /* signals to end, one soon after the other */
	uint64_t urged_ms;
	uint64_t deadline_ms; /* with capture */
	struct notice notice;
	struct err *err;
};

static void window_size(uint16_t *rows, uint16_t *cols)
{
	struct winsize ws = {.ws_row = 24, .ws_col = 80};

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws);
	*rows = ws.ws_row;
	*cols = ws.ws_col;
}

static int send_request(struct run *r)
{
	struct agent_exec e = {.flags = r->s->tty ? AGENT_EXEC_TTY : 0,
		.user = (char *)(uintptr_t)r->s->user,
		.cwd = (char *)(uintptr_t)r->s->cwd,
		.argv = r->s->argv,
		.env = r->s->env};

	if (r->s->tty)
		window_size(&e.rows, &e.cols);
	agent_put_exec(&r->out, &e);
	if (r->out.failed || e.argv.n > AGENT_LIST_MAX || e.env.n > AGENT_LIST_MAX)
		return err_set(r->err, ERR_USER,
			"the command line is too long: at most %u words and %u KiB", AGENT_LIST_MAX,
			AGENT_PAYLOAD_MAX >> 10);
	if (!r->s->input) {
		agent_put(&r->out, AGENT_STDIN_EOF, NULL, 0);
		r->input_open = false;
	}
	return 0;
}

static void on_input(struct run *r)
{
	uint8_t chunk[AGENT_DATA_MAX];
	ssize_t n = read(STDIN_FILENO, chunk, MIN(sizeof(chunk), AGENT_STDIN_WINDOW - r->unacked));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		agent_put(&r->out, AGENT_STDIN_EOF, NULL, 0);
		r->input_open = false;
		return;
	}
	agent_put(&r->out, AGENT_STDIN, chunk, (size_t)n);
	r->unacked += (size_t)n;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return 1000ull * (uint64_t)t.tv_sec + (uint64_t)t.tv_nsec / 1000000;
}

/* Whether the signal is for us and not for the command: a sandbox that does not answer any more could
 * not pass it on. Before the command has started, and when somebody insists. */
static bool is_for_us(struct run *r, int sig)
{
	uint64_t now = now_ms();

	if (sig != SIGINT && sig != SIGTERM && sig != SIGHUP && sig != SIGQUIT)
		return false;
	r->urged = now - r->urged_ms <= URGED_MS ? r->urged + 1 : 1;
	r->urged_ms = now;
	return !r->started || r->urged >= URGED_TIMES;
}

static void on_signal(struct run *r)
{
	struct signalfd_siginfo si;
	uint8_t payload[4] = {0};

	if (read(r->sigfd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	if (si.ssi_signo == SIGWINCH) {
		uint16_t rows, cols;

		if (!r->s->tty)
			return;
		window_size(&rows, &cols);
		payload[0] = (uint8_t)rows;
		payload[1] = (uint8_t)(rows >> 8);
		payload[2] = (uint8_t)cols;
		payload[3] = (uint8_t)(cols >> 8);
		agent_put(&r->out, AGENT_RESIZE, payload, 4);
		return;
	}
	if (r->s->capture && si.ssi_signo != SIGUSR1 && si.ssi_signo != SIGUSR2) {
		r->s->capture->signal = (int)si.ssi_signo;
		r->status = 128 + (int)si.ssi_signo;
		return;
	}
	/* With the stream's end the command hears of it. */
	if ((si.ssi_signo == SIGHUP && r->s->tty) || is_for_us(r, (int)si.ssi_signo)) {
		r->status = 128 + (int)si.ssi_signo;
		return;
	}
	payload[0] = (uint8_t)si.ssi_signo;
	agent_put(&r->out, AGENT_SIGNAL, payload, 4);
}

static int broken(struct run *r)
{
	r->failed = true;
	return err_set(r->err, ERR_PEER, "the sandbox sent a message that makes no sense");
}

/* All of it, also where somebody has made the terminal or pipe non-blocking. */
static int write_patiently(int fd, const uint8_t *data, size_t n)
{
	while (n) {
		ssize_t done = write(fd, data, n);

		if (done < 0 && errno == EAGAIN)
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		else if (done < 0 && errno != EINTR)
			return -1;
		data += MAX(done, 0);
		n -= (size_t)MAX(done, 0);
	}
	return 0;
}

/* Nobody reads our output any more: end as a local command would, by SIGPIPE, which ends the remote
 * one with the stream. Output that is lost otherwise (a full disk) is a failure of ours. */
static void write_output(struct run *r, int fd, struct rd *p)
{
	size_t n = rd_left(p);
	const uint8_t *data = rd_bytes(p, n);

	if (r->s->capture) {
		struct buf *b = fd == STDOUT_FILENO ? &r->s->capture->out : &r->s->capture->err;

		buf_put(b, data, MIN(n, buf_room(b)));
		return;
	}
	if (write_patiently(fd, data, n) < 0 && r->status < 0) {
		if (errno != EPIPE && errno != EIO) { /* EIO: the terminal is gone */
			r->failed = true;
			err_errno(r->err, "standard %s", fd == STDOUT_FILENO ? "output" : "error");
		}
		r->status = 128 + SIGPIPE;
	}
	notice_output(&r->notice, data, n);
}

static int on_frame(struct run *r, uint8_t type, struct rd p)
{
	uint32_t code, sig, starved;
	_free_ char *text = NULL;

	switch (type) {
	case AGENT_STARTED:
		if (r->s->tty && !r->started) /* until now Ctrl-C is a signal */
			raw_terminal();
		r->started = true;
		return 0;
	case AGENT_STDOUT:
		write_output(r, STDOUT_FILENO, &p);
		return 0;
	case AGENT_STDERR:
		write_output(r, STDERR_FILENO, &p);
		return 0;
	case AGENT_STDIN_ACK:
		code = rd_le32(&p);
		if (!rd_done(&p) || code > r->unacked)
			return broken(r);
		r->unacked -= code;
		return 0;
	case AGENT_EXIT:
		if (agent_get_exit(p, &code, &sig, &starved) < 0)
			return broken(r);
		r->starved = starved > 0;
		r->status = sig ? 128 + (int)(sig & 127) : (int)(code & 255);
		return 0;
	case AGENT_ERROR:
		if (agent_get_error(p, &code, &text) < 0)
			return broken(r);
		err_set(r->err, ERR_USER, "%s", text);
		r->refused = true;
		r->status = code == ENOENT ? 127 : 126;
		r->failed = code != ENOENT && code != EACCES && code != ENOEXEC;
		return 0;
	default:
		return broken(r);
	}
}

static int on_stream(struct run *r)
{
	ssize_t n = buf_read(&r->in, r->fd, AGENT_PAYLOAD_MAX);
	struct rd payload;
	uint8_t type;
	int more;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		r->failed = true;
		err_set(r->err, ERR_PEER, "the sandbox went away");
		return err_hint(r->err, "hutch ls");
	}
	while (r->status < 0 && (more = agent_next(&r->in, &type, &payload)) > 0) {
		if (on_frame(r, type, payload) < 0)
			return -1;
		agent_consume(&r->in);
	}
	return r->status < 0 && more < 0 ? broken(r) : 0;
}

/* One read; what is buffered behind it is shown, too. */
static void on_event(struct run *r)
{
	struct box_conn *c = r->events;
	bool gone = false;
	char *text = box_next_event(c, &gone);

	while (text) {
		notice_put(&r->notice, text);
		free(text);
		/* Only what is there as a whole: reading on would wait. */
		text = buf_len(&c->in) && memchr(buf_head(&c->in), '\n', buf_len(&c->in))
			       ? box_next_event(c, &gone)
			       : NULL;
	}
	if (gone)
		r->events = NULL;
}

/* What is left of the command's time, for poll. */
static int time_left(const struct run *r)
{
	uint64_t now = now_ms();

	if (!r->s->capture)
		return -1;
	return now < r->deadline_ms ? (int)(r->deadline_ms - now) : 0;
}

static int turn(struct run *r)
{
	bool want_input = r->input_open && r->unacked < AGENT_STDIN_WINDOW && buf_room(&r->out) > AGENT_DATA_MAX * 2;
	struct pollfd p[] = {{.fd = r->fd, .events = (short)(POLLIN | (buf_len(&r->out) ? POLLOUT : 0))},
		{.fd = r->sigfd, .events = POLLIN},
		{.fd = want_input ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = r->events ? r->events->fd : -1, .events = POLLIN}};

	if (poll(p, ARRAY_SIZE(p), time_left(r)) < 0)
		return errno == EINTR ? 0 : err_errno(r->err, "poll");
	if (time_left(r) == 0) {
		r->s->capture->timed_out = true;
		r->status = 128 + SIGKILL;
		return 0;
	}
	if (p[1].revents)
		on_signal(r);
	if (p[2].revents)
		on_input(r);
	if (p[3].revents)
		on_event(r);
	if ((p[0].revents & POLLOUT) && buf_write(&r->out, r->fd) < 0 && errno != EAGAIN &&
		errno != EINTR && errno != EPIPE)
		return err_errno(r->err, "sandbox");
	if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
		return on_stream(r);
	return 0;
}

static void say_starved(const struct session *s)
{
	static const char text[] = "hutch: the sandbox ran out of memory, so its kernel killed a program; "
				   "--memory SIZE makes a larger one\n";

	if (s->capture)
		buf_puts(&s->capture->err, text);
	else
		fputs(text, stderr);
}

int session_run(int stream_fd, const struct session *s, struct err *err)
{
	struct run r = {.s = s,
		.events = s->events,
		.fd = stream_fd,
		.input_open = true,
		.status = -1,
		.err = err};
	int signals[] = {SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	sigset_t set, old;
	int result;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, &old);
	r.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	buf_init(&r.in, AGENT_PAYLOAD_MAX + AGENT_HEADER);
	buf_init(&r.out, 1u << 20);
	fd_set_nonblock(stream_fd, true);
	if (s->capture)
		r.deadline_ms = now_ms() + 1000ull * s->capture->timeout_s;
	notice_init(&r.notice, s->tty);
	result = send_request(&r);
	while (result == 0 && r.status < 0)
		result = turn(&r);
	restore_terminal();
	notice_end(&r.notice);
	sigprocmask(SIG_SETMASK, &old, NULL);
	buf_done(&r.in);
	buf_done(&r.out);
	close_and_reset(&r.sigfd);
	close(stream_fd);
	if (r.starved)
		say_starved(s);
	if (result == 0 && r.refused && s->capture) {
		buf_printf(&s->capture->err, "%s\n", err->msg);
		return r.status;
	}
	if (result < 0 || r.failed)
		return -1;
	if (r.refused)
		cli_fail(err);
	return r.status;
}

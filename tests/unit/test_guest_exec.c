/* SPDX-License-Identifier: Apache-2.0 */
/* The agent server over socket pairs: commands and hostile streams. Runs as an ordinary user, with
 * the test's own user as "agent". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest_client.h"

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* ── commands ─────────────────────────────────────────────────────────────────────────────── */

static void test_results(void **state)
{
	static const struct {
		const char *script, *out, *err;
		uint32_t code, sig;
	} table[] = {
		{"exit 0", "", "", 0, 0},
		{"exit 7", "", "", 7, 0},
		{"echo out; echo err >&2; exit 255", "out\n", "err\n", 255, 0},
		{"kill -TERM $$", "", "", 128 + 15, 15},
		{"kill -KILL $$", "", "", 128 + 9, 9},
		{"cat", "", "", 0, 0}, /* input ends at once */
		{"test -t 0 || test -t 1 || test -t 2 || echo none", "none\n", "", 0, 0},
		{"echo again >/dev/stdout", "again\n", "", 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct talk t = talk_open(*state);

		talk_shell(&t, table[i].script, 0);
		talk_send(&t, AGENT_STDIN_EOF, NULL, 0);
		talk_until(&t, AGENT_EXIT);
		assert_string_equal(buf_cstr(&t.out), table[i].out);
		assert_string_equal(buf_cstr(&t.err), table[i].err);
		assert_int_equal(t.code, table[i].code);
		assert_int_equal(t.sig, table[i].sig);
		assert_true(t.pid > 1);
		talk_until(&t, 0);
		talk_close(&t);
	}
}

static void test_failures(void **state)
{
	static const struct {
		const char *argv0, *user, *cwd;
		int errnum;
		const char *text;
	} table[] = {
		{"no-such-program", "", "", ENOENT, "command not found"},
		{"/no/such/program", "", "", ENOENT, "/no/such/program"},
		{"/etc/passwd", "", "", EACCES, "/etc/passwd"},
		{"/tmp", "", "", EACCES, "/tmp"},
		{"", "", "", ENOENT, ""},
		{"true", "nobody-here", "", EINVAL, "no user"},
		{"true", "", "/no/such/directory", ENOTDIR, "working directory"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct talk t = talk_open(*state);

		talk_exec(&t, (const char *const[]){table[i].argv0, NULL}, table[i].user,
			table[i].cwd, 0);
		talk_until(&t, AGENT_ERROR);
		assert_int_equal(t.errnum, table[i].errnum);
		assert_non_null(strstr(t.text, table[i].text));
		assert_int_equal(t.pid, 0); /* never said to have started */
		talk_until(&t, 0);
		talk_close(&t);
	}
}

static void test_environment(void **state)
{
	struct guest *g = *state;
	_free_ char *home = xasprintf("%s/home", g->root);
	_free_ char *want = NULL;
	struct talk t = talk_open(g);

	talk_shell(&t,
		"echo $HOME:$USER:$LOGNAME:$SHELL:$FROM_SETUP:$BOTH:$TERM:$LANG; pwd; umask; "
		"trap | cat; ulimit -n",
		0);
	talk_until(&t, AGENT_EXIT);
	want = xasprintf(
		"%s:agent:agent:/bin/sh:setup:request::C.UTF-8\n%s\n0022\n1024\n", home, home);
	assert_string_equal(buf_cstr(&t.out), want);
	talk_close(&t);

	/* A home that does not exist is no reason to refuse. */
	t = talk_open(g);
	talk_exec(&t, (const char *const[]){"pwd", NULL}, "homeless", "", 0);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(buf_cstr(&t.out), "/\n");
	talk_close(&t);

	t = talk_open(g);
	talk_exec(&t, (const char *const[]){"pwd", NULL}, "", "/usr", 0);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(buf_cstr(&t.out), "/usr\n");
	talk_close(&t);
}

/* Of the sandbox's variables, those that are named. */
static void test_bounded_environment(void **state)
{
	struct guest *g = *state;
	_free_ char *want = xasprintf("BOTH=request\nHOME=%s/home\nNAMED=named\n", g->root);
	struct talk t = talk_open(g);

	talk_shell(&t, "env | grep -v -e ^PATH= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort",
		AGENT_EXEC_BOUNDED);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(buf_cstr(&t.out), want);
	talk_close(&t);
}

/* Only the standard streams are open, and no signal is ignored or blocked. */
static void test_clean_process(void **state)
{
	struct talk hold = talk_open(*state), t;

	talk_shell(&hold, "cat", 0); /* another command, whose pipes must not leak into ours */
	talk_until(&hold, AGENT_STARTED);
	t = talk_open(*state);
	talk_exec(&t, (const char *const[]){"ls", "/proc/self/fd", NULL}, "", "", 0);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(buf_cstr(&t.out), "0\n1\n2\n3\n"); /* 3: ls reads the directory */
	talk_close(&t);
	t = talk_open(*state);
	talk_exec(&t, (const char *const[]){"grep", "^Sig[BI]", "/proc/self/status", NULL}, "", "",
		0);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(
		buf_cstr(&t.out), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	talk_close(&t);
	talk_close(&hold);
}

static void test_script_without_interpreter(void **state)
{
	struct guest *g = *state;
	_free_ char *path = xasprintf("%s/home/script", g->root);
	struct talk t = talk_open(g);

	guest_write(g, "home/script", "echo \"plain $1\"\n");
	assert_int_equal(chmod(path, 0755), 0);
	talk_exec(&t, (const char *const[]){path, "text", NULL}, "", "", 0);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(buf_cstr(&t.out), "plain text\n");
	talk_close(&t);
}

/* Much input through a command that reads it all: every byte arrives, every byte is acknowledged,
 * and never more than the window is on its way. */
static void test_input(void **state)
{
	struct talk t = talk_open(*state);
	uint32_t total = 3u << 20, sent = 0;
	uint8_t chunk[AGENT_DATA_MAX];

	talk_exec(&t, (const char *const[]){"cat", NULL}, "", "", 0);
	while (sent < total) {
		while (sent + sizeof(chunk) - t.acked > AGENT_STDIN_WINDOW)
			assert_true(talk_next(&t, PATIENCE_MS) > 0);
		for (size_t i = 0; i < sizeof(chunk); i++)
			chunk[i] = (uint8_t)((sent + i) * 2654435761u >> 24);
		talk_send(&t, AGENT_STDIN, chunk, sizeof(chunk));
		sent += (uint32_t)sizeof(chunk);
	}
	talk_send(&t, AGENT_STDIN_EOF, NULL, 0);
	talk_until(&t, AGENT_EXIT);
	assert_int_equal(t.code, 0);
	assert_int_equal(buf_len(&t.out), total);
	for (size_t i = 0; i < total; i++)
		if (buf_head(&t.out)[i] != (uint8_t)(i * 2654435761u >> 24))
			fail_msg("byte %zu differs", i);
	assert_int_equal(t.acked, total);
	talk_close(&t);
}

/* A command that does not want its input: the rest is dropped and acknowledged. */
static void test_unwanted_input(void **state)
{
	struct talk t = talk_open(*state);
	uint8_t chunk[AGENT_DATA_MAX] = {0};

	talk_shell(
		&t, "trap 'exit 3' TERM; exec <&-; echo closed; while :; do sleep 0.05; done", 0);
	talk_until_output(&t, "closed");
	for (int i = 0; i < 8; i++)
		talk_send(&t, AGENT_STDIN, chunk, sizeof(chunk));
	while (t.acked < sizeof(chunk) * 8)
		assert_true(talk_next(&t, PATIENCE_MS) > 0);
	talk_send_le32(&t, AGENT_SIGNAL, SIGTERM);
	talk_until(&t, AGENT_EXIT);
	assert_int_equal(t.code, 3);
	assert_int_equal(t.acked, sizeof(chunk) * 8);
	talk_close(&t);
}

/* Output waits for a reader without being lost, and the server serves others meanwhile. */
static void test_output_congestion(void **state)
{
	struct talk t = talk_open(*state), other;

	talk_shell(&t, "head -c 8000000 /dev/zero; echo end", 0);
	usleep(300000);
	other = talk_open(*state);
	talk_shell(&other, "echo alive", 0);
	talk_until(&other, AGENT_EXIT);
	assert_string_equal(buf_cstr(&other.out), "alive\n");
	talk_close(&other);
	talk_until(&t, AGENT_EXIT);
	assert_int_equal(buf_len(&t.out), 8000004);
	talk_close(&t);
}

static void count_drained(struct stream *s)
{
	++*(unsigned *)s->owner;
}

/* A producer that paused hears of room, even when the output goes away outside of the loop's turn
 * for it. */
static void test_congestion_ends(void **state)
{
	static const struct stream_ops ops = {.drained = count_drained};
	static uint8_t junk[256 << 10];
	struct err err;
	struct loop *l = loop_new(&err);
	unsigned drained = 0;
	struct stream *s;
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	s = stream_new(l, fd[0], &ops, &drained);
	assert_non_null(s);
	assert_false(stream_congested(s));
	do {
		buf_put(&s->out, junk, sizeof(junk));
		stream_flush(s);
	} while (!stream_congested(s));
	while (buf_len(&s->out)) {
		assert_true(read(fd[1], junk, sizeof(junk)) > 0);
		stream_flush(s);
	}
	while (recv(fd[1], junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(drained, 0);
	assert_false(stream_congested(s));
	for (unsigned i = 0; i < 3; i++)
		loop_once(l, 0, &err);
	assert_int_equal(drained, 1);
	stream_free(s);
	close(fd[1]);
	loop_free(l);
}

static void test_background_process(void **state)
{
	struct talk t = talk_open(*state);
	uint64_t start = now_ms();

	talk_shell(&t, "sleep 600 & echo $!", 0);
	talk_until(&t, AGENT_EXIT);
	assert_true(now_ms() - start < PATIENCE_MS);
	assert_int_equal(t.code, 0);
	/* It goes on running: the command ended by itself, nobody hung up. */
	assert_int_equal(kill((pid_t)atol(buf_cstr(&t.out)), SIGKILL), 0);
	talk_close(&t);
}

/* Not even one that writes for ever. */
static void test_background_writer(void **state)
{
	for (unsigned tty = 0; tty < 2; tty++) {
		struct talk t = talk_open(*state);
		uint64_t start = now_ms();

		talk_shell(&t, "trap '' HUP; yes & exit 3", tty ? AGENT_EXEC_TTY : 0);
		talk_until(&t, AGENT_EXIT);
		assert_true(now_ms() - start < PATIENCE_MS);
		assert_int_equal(t.code, 3);
		talk_close(&t);
	}
}

/* What the command wrote before its end arrives, although the host reads slowly and somebody else
 * still holds the pipe. */
static void test_slow_reader(void **state)
{
	struct talk t = talk_open(*state);

	talk_shell(&t, "head -c 500000 /dev/zero; sleep 600 & exit 0", 0);
	sleep(3);
	talk_until(&t, AGENT_EXIT);
	assert_int_equal(buf_len(&t.out), 500000);
	talk_close(&t);
}

/* Output that comes shortly after the command's own end is still delivered: at least once in a while
 * no other process is in the way of the script for longer than that. */
static void test_late_output(void **state)
{
	bool whole = false;

	for (unsigned i = 0; i < 20 && !whole; i++) {
		struct talk t = talk_open(*state);

		talk_shell(&t, "(for i in 1 2 3 4 5; do sleep 0.05; echo $i; done) & exit 4", 0);
		talk_until(&t, AGENT_EXIT);
		whole = strcmp(buf_cstr(&t.out), "1\n2\n3\n4\n5\n") == 0;
		assert_int_equal(t.code, 4);
		talk_close(&t);
	}
	assert_true(whole);
}

static void test_signal(void **state)
{
	struct talk t = talk_open(*state);

	talk_shell(
		&t, "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done", 0);
	talk_until_output(&t, "ready");
	talk_send_le32(&t, AGENT_SIGNAL, SIGTERM);
	talk_until(&t, AGENT_EXIT);
	assert_non_null(strstr(buf_cstr(&t.out), "caught"));
	assert_int_equal(t.code, 5);
	talk_close(&t);
}

/* Whether nothing of process @pid runs any more; reaping it may be somebody else's business. */
static bool has_ended(pid_t pid)
{
	char path[32], stat[512] = "";
	const char *state;
	_close_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, stat, sizeof(stat) - 1) <= 0)
		return true;
	state = strrchr(stat, ')');
	return state && state[1] && state[2] == 'Z';
}

static bool ends(pid_t pid)
{
	uint64_t end = now_ms() + PATIENCE_MS;

	while (now_ms() < end) {
		if (has_ended(pid))
			return true;
		usleep(20000);
	}
	return false;
}

static void test_hang_up(void **state)
{
	static const char *const scripts[] = {
		"echo $$; sleep 600",
		"trap '' HUP; echo $$; while :; do sleep 60; done", /* has to be killed */
		"trap '' HUP; sh -c 'echo $$; while :; do sleep 60; done'; :",
		"sh -c 'trap \"\" HUP; echo $$; while :; do sleep 60; done' & wait",
	};

	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		for (unsigned tty = 0; tty < 2; tty++) {
			struct talk t = talk_open(*state);
			pid_t pid;

			if (tty && i == 3)
				continue; /* ended by the terminal's own rules */
			talk_shell(&t, scripts[i], tty ? AGENT_EXEC_TTY : 0);
			talk_until_output(&t, "\n");
			pid = (pid_t)atol(buf_cstr(&t.out));
			assert_true(pid > 1);
			assert_int_equal(kill(pid, 0), 0);
			talk_close(&t);
			assert_true(ends(pid));
		}
	}
}

/* ── terminals ────────────────────────────────────────────────────────────────────────────── */

static void test_terminal(void **state)
{
	struct talk t = talk_open(*state);

	talk_shell(&t, "test -t 0 && test -t 1 && test -t 2 && stty size && tty && echo $TERM",
		AGENT_EXEC_TTY);
	talk_until(&t, AGENT_EXIT);
	assert_int_equal(t.code, 0);
	assert_non_null(strstr(buf_cstr(&t.out), "24 80\r\n/dev/pts/"));
	assert_non_null(strstr(buf_cstr(&t.out), "xterm\r\n"));
	talk_close(&t);
}

static void test_terminal_resize(void **state)
{
	static const uint8_t size[] = {50, 0, 200, 0};
	struct talk t = talk_open(*state);

	talk_shell(&t, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done",
		AGENT_EXEC_TTY);
	talk_until_output(&t, "ready");
	talk_send(&t, AGENT_RESIZE, size, sizeof(size));
	talk_until(&t, AGENT_EXIT);
	assert_non_null(strstr(buf_cstr(&t.out), "50 200"));
	talk_close(&t);
}

static void test_terminal_keys(void **state)
{
	struct talk t = talk_open(*state);

	/* Ctrl-C is the terminal's business, not the protocol's. */
	talk_shell(&t, "echo ready; exec sleep 600", AGENT_EXEC_TTY);
	talk_until_output(&t, "ready");
	talk_send(&t, AGENT_STDIN, "\003", 1);
	talk_until(&t, AGENT_EXIT);
	assert_int_equal(t.sig, SIGINT);
	talk_close(&t);

	/* The end of input is the end-of-file character, on an empty and on a started line. */
	for (int i = 0; i < 2; i++) {
		t = talk_open(*state);
		talk_shell(&t, "stty -echo; echo ready; cat; echo over", AGENT_EXEC_TTY);
		talk_until_output(&t, "ready");
		talk_send(&t, AGENT_STDIN, "line", i ? 4 : 0);
		talk_send(&t, AGENT_STDIN_EOF, NULL, 0);
		talk_until(&t, AGENT_EXIT);
		assert_int_equal(t.code, 0);
		assert_non_null(strstr(buf_cstr(&t.out), i ? "lineover" : "ready\r\nover"));
		talk_close(&t);
	}
}

/* A signal goes to whoever has the terminal, here a job of an interactive shell. */
static void test_terminal_signal(void **state)
{
	struct talk t = talk_open(*state);
	const char script[] = "sh -c 'trap \"echo job; exit\" USR1; echo re\"\"ady; "
			      "while :; do sleep 0.05; done'; echo she\"\"ll; exit\n";

	talk_exec(&t, (const char *const[]){"sh", "-i", NULL}, "", "", AGENT_EXEC_TTY);
	talk_send(&t, AGENT_STDIN, script, strlen(script));
	talk_until_output(&t, "ready");
	talk_send_le32(&t, AGENT_SIGNAL, SIGUSR1);
	talk_until(&t, AGENT_EXIT);
	assert_non_null(strstr(buf_cstr(&t.out), "job"));
	assert_non_null(strstr(buf_cstr(&t.out), "shell"));
	talk_close(&t);
}

/* ── hostile streams ──────────────────────────────────────────────────────────────────────── */

static void test_protocol_errors(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} table[] = {
		{"\0\0\0\0\0", 5},                                /* no such type */
		{"\1\0\1\0\100", 5},                              /* over the ceiling */
		{"\377\377\377\377\377", 5}, {"\0\0\0\0\102", 5}, /* STDIN before EXEC */
		{"\0\0\0\0\041", 5},                              /* a guest's frame */
		{"\1\0\0\0\140x", 6},                             /* PUT with a payload */
	};
	struct talk t;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		t = talk_open(*state);
		assert_int_equal(fd_write_all(t.fd, table[i].bytes, table[i].len), 0);
		talk_until(&t, 0);
		talk_close(&t);
	}
	/* Malformed requests are answered. */
	t = talk_open(*state);
	talk_send(&t, AGENT_EXEC, "garbage", 7);
	talk_until(&t, AGENT_ERROR);
	assert_int_equal(t.errnum, EINVAL);
	talk_close(&t);
	t = talk_open(*state);
	talk_exec(&t, (const char *const[]){NULL}, "", "", 0);
	talk_until(&t, AGENT_ERROR);
	talk_close(&t);
	t = talk_open(*state);
	talk_send(&t, AGENT_DIAL, "\0\0", 2);
	talk_until(&t, AGENT_ERROR);
	talk_close(&t);
}

/* A host that breaks the rules in the middle of a command loses the command. */
static void test_protocol_errors_later(void **state)
{
	static const struct {
		enum agent_type type;
		const char *payload;
		size_t len;
	} table[] = {
		{AGENT_SIGNAL, "\0\0\0\0", 4},
		{AGENT_SIGNAL, "\101\0\0\0", 4}, /* 65 */
		{AGENT_SIGNAL, "\1\0\0", 3},
		{AGENT_RESIZE, "\1\0\0", 3},
		{AGENT_STDIN_EOF, "x", 1},
		{AGENT_EXEC, "", 0},
		{AGENT_STDOUT, "x", 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct talk t = talk_open(*state);

		talk_shell(&t, "echo go; sleep 600", 0);
		talk_until_output(&t, "go");
		talk_send(&t, table[i].type, table[i].payload, table[i].len);
		talk_until(&t, 0);
		assert_true(ends((pid_t)t.pid));
		talk_close(&t);
	}
}

static void test_window_is_enforced(void **state)
{
	struct talk t = talk_open(*state);
	static uint8_t chunk[AGENT_DATA_MAX];

	talk_shell(&t, "echo go; sleep 600", 0);
	talk_until_output(&t, "go");
	/* The pipe itself takes 64 KiB, which are acknowledged; beyond the window is too much. */
	for (size_t n = 0; n <= AGENT_STDIN_WINDOW + (128u << 10); n += sizeof(chunk)) {
		struct buf b;

		buf_init(&b, AGENT_HEADER + AGENT_PAYLOAD_MAX);
		agent_put(&b, AGENT_STDIN, chunk, sizeof(chunk));
		(void)send(t.fd, buf_head(&b), buf_len(&b), MSG_NOSIGNAL);
		buf_done(&b);
	}
	talk_until(&t, 0);
	assert_true(ends((pid_t)t.pid));
	talk_close(&t);
}

static void test_many_at_once(void **state)
{
	static struct talk t[60];

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = talk_open(*state);
		talk_shell(&t[i], "read x; echo $x", 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char line[16];

		snprintf(line, sizeof(line), "%zu\n", i);
		talk_send(&t[i], AGENT_STDIN, line, strlen(line));
	}
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		talk_until(&t[i], AGENT_EXIT);
		assert_int_equal(atol(buf_cstr(&t[i].out)), i);
		talk_close(&t[i]);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, guest_setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_results),
		T(test_failures),
		T(test_environment),
		T(test_bounded_environment),
		T(test_clean_process),
		T(test_script_without_interpreter),
		T(test_background_process),
		T(test_background_writer),
		T(test_slow_reader),
		T(test_input),
		T(test_unwanted_input),
		T(test_output_congestion),
		T(test_congestion_ends),
		T(test_late_output),
		T(test_signal),
		T(test_hang_up),
		T(test_terminal),
		T(test_terminal_resize),
		T(test_terminal_keys),
		T(test_terminal_signal),
		T(test_protocol_errors),
		T(test_protocol_errors_later),
		T(test_window_is_enforced),
		T(test_many_at_once),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The agent server over socket pairs: commands, copies, port connections, hostile streams. Runs as
 * an ordinary user, with the test's own user as "agent". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

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

	talk_shell(&t, "exec <&-; echo closed; read x </dev/null; sleep 0.3; exit 3", 0);
	talk_until_output(&t, "closed");
	for (int i = 0; i < 8; i++)
		talk_send(&t, AGENT_STDIN, chunk, sizeof(chunk));
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

static void test_background_process(void **state)
{
	struct talk t = talk_open(*state);
	uint64_t start = now_ms();

	talk_shell(&t, "sleep 60 & echo $!", 0);
	talk_until(&t, AGENT_EXIT);
	assert_true(now_ms() - start < 20000);
	assert_int_equal(t.code, 0);
	/* It goes on running: the command ended by itself, nobody hung up. */
	assert_int_equal(kill((pid_t)atol(buf_cstr(&t.out)), SIGKILL), 0);
	talk_close(&t);
}

/* Output that comes shortly after the command's own end is still delivered. */
static void test_late_output(void **state)
{
	struct talk t = talk_open(*state);

	talk_shell(&t, "(for i in 1 2 3 4 5; do sleep 0.05; echo $i; done) & exit 4", 0);
	talk_until(&t, AGENT_EXIT);
	assert_string_equal(buf_cstr(&t.out), "1\n2\n3\n4\n5\n");
	assert_int_equal(t.code, 4);
	talk_close(&t);
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

/* Whether process @pid ends within @ms. */
static bool ends_within(pid_t pid, unsigned ms)
{
	uint64_t end = now_ms() + ms;

	while (now_ms() < end) {
		if (kill(pid, 0) < 0 && errno == ESRCH)
			return true;
		usleep(20000);
	}
	return false;
}

static void test_hang_up(void **state)
{
	static const char *const scripts[] = {
		"echo $$; sleep 60",
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
			assert_true(ends_within(pid, 15000));
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
	talk_shell(&t, "echo ready; exec sleep 60", AGENT_EXEC_TTY);
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

		talk_shell(&t, "echo go; sleep 60", 0);
		talk_until_output(&t, "go");
		talk_send(&t, table[i].type, table[i].payload, table[i].len);
		talk_until(&t, 0);
		assert_true(ends_within((pid_t)t.pid, 15000));
		talk_close(&t);
	}
}

static void test_window_is_enforced(void **state)
{
	struct talk t = talk_open(*state);
	static uint8_t chunk[AGENT_DATA_MAX];

	talk_shell(&t, "echo go; sleep 60", 0);
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
	assert_true(ends_within((pid_t)t.pid, 15000));
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

/* ── copies ───────────────────────────────────────────────────────────────────────────────── */

static void send_entry(struct talk *t, const struct guest *g, int kind, unsigned mode,
	const char *name, const char *content, unsigned flags)
{
	struct agent_entry e = {.kind = (uint8_t)kind,
		.mode = (uint16_t)mode,
		.uid = getuid(),
		.gid = getgid(),
		.flags = (uint8_t)flags};
	struct buf b;

	e.path = xasprintf("%s%s", g->root, name);
	e.target = xstrdup(kind == AGENT_ENTRY_SYMLINK ? content : "");
	e.size = kind == AGENT_ENTRY_FILE ? strlen(content) : 0;
	buf_init(&b, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	agent_put_entry(&b, &e);
	if (e.size)
		agent_put(&b, AGENT_DATA, content, strlen(content));
	agent_entry_done(&e);
	talk_flush(t, &b);
}

static void assert_file(const struct guest *g, const char *name, unsigned mode, const char *content)
{
	_free_ char *path = xasprintf("%s%s", g->root, name);
	struct stat st;
	_buf_ struct buf have;

	buf_init(&have, 1u << 20);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(fs_read_file(AT_FDCWD, path, &have, NULL), 0);
	assert_string_equal(buf_cstr(&have), content);
}

/* Whether a temporary of ours was left in the directory. */
static bool has_leftover(const struct guest *g, const char *dir)
{
	_free_ char *cmd = xasprintf("ls -a %s%s | grep -q hutch-put", g->root, dir);

	return system(cmd) == 0;
}

static void test_put(void **state)
{
	struct guest *g = *state;
	_free_ char *link = xasprintf("%s/home/link", g->root);
	struct talk t = talk_open(g);
	struct stat st;
	char target[64] = "";

	guest_write(g, "home/old", "old");
	guest_write(g, "home/kept", "kept");
	talk_send(&t, AGENT_PUT, NULL, 0);
	send_entry(&t, g, AGENT_ENTRY_DIR, 0700, "/home/dir", "", 0);
	send_entry(&t, g, AGENT_ENTRY_FILE, 0640, "/home/dir/a", "content of a", 0);
	send_entry(&t, g, AGENT_ENTRY_FILE, 0755, "/home/new/deep/b", "b", 0); /* makes parents */
	send_entry(&t, g, AGENT_ENTRY_FILE, 0600, "/home/empty", "", 0);
	send_entry(&t, g, AGENT_ENTRY_FILE, 0644, "/home/old", "replaced", 0);
	send_entry(&t, g, AGENT_ENTRY_FILE, 0600, "/home/kept", "not taken",
		AGENT_ENTRY_ONLY_IF_MISSING);
	send_entry(
		&t, g, AGENT_ENTRY_FILE, 0604, "/home/fresh", "taken", AGENT_ENTRY_ONLY_IF_MISSING);
	send_entry(&t, g, AGENT_ENTRY_DIR, 0777, "/home", "", 0); /* exists: left as it is */
	send_entry(&t, g, AGENT_ENTRY_SYMLINK, 0, "/home/link", "dir/a", 0);
	send_entry(&t, g, AGENT_ENTRY_SYMLINK, 0, "/home/link", "dir/b", 0);
	talk_send(&t, AGENT_END, NULL, 0);
	talk_until(&t, AGENT_DONE);
	talk_until(&t, 0);
	talk_close(&t);

	assert_file(g, "/home/dir/a", 0640, "content of a");
	assert_file(g, "/home/new/deep/b", 0755, "b");
	assert_file(g, "/home/empty", 0600, "");
	assert_file(g, "/home/old", 0644, "replaced");
	assert_file(g, "/home/kept", 0644, "kept");
	assert_file(g, "/home/fresh", 0604, "taken");
	assert_true(readlink(link, target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "dir/b");
	assert_int_equal(stat(link, &st), -1);
	assert_false(has_leftover(g, "/home"));
}

/* A file of several megabytes, in frames of every size. */
static void test_put_large(void **state)
{
	struct guest *g = *state;
	struct agent_entry e = {.kind = AGENT_ENTRY_FILE,
		.mode = 0644,
		.uid = getuid(),
		.gid = getgid(),
		.size = 5000000};
	static uint8_t data[AGENT_PAYLOAD_MAX];
	size_t left = e.size, step = 1;
	struct talk t = talk_open(g);
	struct stat st;
	struct buf b;

	e.path = xasprintf("%s/home/large", g->root);
	talk_send(&t, AGENT_PUT, NULL, 0);
	buf_init(&b, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	agent_put_entry(&b, &e);
	talk_flush(&t, &b);
	for (; left; left -= step, step = MIN(step * 3, (size_t)AGENT_PAYLOAD_MAX)) {
		step = MIN(step, left);
		talk_send(&t, AGENT_DATA, data, step);
	}
	talk_send(&t, AGENT_END, NULL, 0);
	talk_until(&t, AGENT_DONE);
	assert_int_equal(stat(e.path, &st), 0);
	assert_int_equal(st.st_size, 5000000);
	free(e.path);
	talk_close(&t);
}

static void put_must_fail(struct talk *t, const char *text)
{
	talk_until(t, AGENT_ERROR);
	if (!strstr(t->text, text))
		fail_msg("wanted \"%s\" in \"%s\"", text, t->text);
	talk_close(t);
}

static struct talk open_put(const struct guest *g)
{
	struct talk t = talk_open(g);

	talk_send(&t, AGENT_PUT, NULL, 0);
	return t;
}

static void test_put_errors(void **state)
{
	struct guest *g = *state;
	struct talk t = open_put(g);

	guest_write(g, "home/file", "x");
	send_entry(&t, g, AGENT_ENTRY_FILE, 0644, "/home/file/below", "a", 0);
	put_must_fail(&t, "/home/file");
	t = open_put(g);
	send_entry(&t, g, AGENT_ENTRY_DIR, 0755, "/home/file", "", 0);
	put_must_fail(&t, "/home/file");
	t = open_put(g);
	guest_mkdir(g, "home/full/sub");
	send_entry(&t, g, AGENT_ENTRY_FILE, 0644, "/home/full", "a", 0);
	put_must_fail(&t, "/home/full");
	t = open_put(g);
	send_entry(&t, g, AGENT_ENTRY_FILE, 0644, "/home/../etc/passwd", "a", 0);
	put_must_fail(&t, "malformed entry");
	t = open_put(g);
	send_entry(&t, g, 9, 0644, "/home/kind", "", 0);
	put_must_fail(&t, "malformed entry");
	t = open_put(g);
	talk_send(&t, AGENT_ENTRY, "x", 1);
	put_must_fail(&t, "malformed entry");
	t = open_put(g);
	talk_send(&t, AGENT_DATA, "x", 1);
	put_must_fail(&t, "more data");
	t = open_put(g);
	send_entry(&t, g, AGENT_ENTRY_FILE, 0644, "/home/done", "abc", 0);
	talk_send(&t, AGENT_DATA, "x", 1); /* after the last announced byte */
	put_must_fail(&t, "more data");
	t = open_put(g);
	talk_send(&t, AGENT_STDIN, "x", 1);
	put_must_fail(&t, "unexpected frame");
	assert_false(has_leftover(g, "/home"));
	assert_file(g, "/home/done", 0644, "abc");
}

/* A copy that breaks off in the middle of a file leaves nothing of that file. */
static void test_put_broken_off(void **state)
{
	struct guest *g = *state;
	struct agent_entry e = {.kind = AGENT_ENTRY_FILE,
		.mode = 0644,
		.uid = getuid(),
		.gid = getgid(),
		.size = 100};
	struct talk t = open_put(g);
	struct buf b;

	guest_write(g, "home/file", "before");
	e.path = xasprintf("%s/home/file", g->root);
	buf_init(&b, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	agent_put_entry(&b, &e);
	agent_put(&b, AGENT_DATA, "half", 4);
	talk_flush(&t, &b);
	free(e.path);
	shutdown(t.fd, SHUT_WR);
	put_must_fail(&t, "broke off");
	assert_file(g, "/home/file", 0644, "before");
	assert_false(has_leftover(g, "/home"));
}

/* ── port connections ─────────────────────────────────────────────────────────────────────── */

static int listen_on(int family, uint16_t *ret_port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0 || bind(s, sa, len) < 0 || listen(s, 1) < 0 || getsockname(s, sa, &len) < 0) {
		close(s);
		return -1;
	}
	*ret_port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return s;
}

static void send_dial(struct talk *t, uint16_t port)
{
	uint8_t le[2] = {(uint8_t)port, (uint8_t)(port >> 8)};

	talk_send(t, AGENT_DIAL, le, sizeof(le));
}

/* Both directions, each closed on its own. */
static void check_relay(const struct guest *g, int family)
{
	uint16_t port = 0;
	_close_ int s = listen_on(family, &port);
	_close_ int peer = -1;
	struct talk t;
	char got[64] = "";

	if (s < 0) {
		print_message("no address family %d here\n", family);
		return;
	}
	t = talk_open(g);
	send_dial(&t, port);
	assert_int_equal(fd_write_all(t.fd, "early", 5), 0); /* before the answer */
	peer = accept(s, NULL, NULL);
	assert_true(peer >= 0);
	talk_until(&t, AGENT_DONE);
	assert_int_equal(fd_read_all(peer, got, 5), 0);
	assert_memory_equal(got, "early", 5);
	shutdown(t.fd, SHUT_WR);
	assert_int_equal(read(peer, got, sizeof(got)), 0); /* half-closed */
	assert_int_equal(fd_write_all(peer, "answer", 6), 0);
	close_and_reset(&peer);
	assert_int_equal(fd_read_all(t.fd, got, 6), 0);
	assert_memory_equal(got, "answer", 6);
	assert_int_equal(read(t.fd, got, sizeof(got)), 0);
	talk_close(&t);
}

static void test_dial(void **state)
{
	check_relay(*state, AF_INET);
	check_relay(*state, AF_INET6);
}

static void test_dial_refused(void **state)
{
	uint16_t port = 0;
	int s = listen_on(AF_INET, &port);
	struct talk t = talk_open(*state);

	close(s);
	send_dial(&t, port);
	talk_until(&t, AGENT_ERROR);
	assert_int_equal(t.errnum, ECONNREFUSED);
	talk_until(&t, 0);
	talk_close(&t);
}

/* A reader that stops does not lose data, and neither side's death leaves the other waiting. */
static void test_dial_congestion(void **state)
{
	uint16_t port = 0;
	_close_ int s = listen_on(AF_INET, &port);
	static uint8_t data[4u << 20];
	struct talk t = talk_open(*state);
	size_t got = 0;
	int peer;
	pid_t pid;

	send_dial(&t, port);
	peer = accept(s, NULL, NULL);
	talk_until(&t, AGENT_DONE);
	got = buf_len(&t.in); /* raw bytes may have come with the answer */
	assert_int_equal(got, 0);
	pid = fork();
	if (pid == 0)
		_exit(fd_write_all(peer, data, sizeof(data)) < 0);
	close(peer);
	usleep(200000);
	for (ssize_t n; (n = read(t.fd, data, sizeof(data))) > 0;)
		got += (size_t)n;
	assert_int_equal(got, sizeof(data));
	waitpid(pid, NULL, 0);
	talk_close(&t);
}

#define T(f) cmocka_unit_test_setup_teardown(f, guest_setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_results),
		T(test_failures),
		T(test_environment),
		T(test_clean_process),
		T(test_script_without_interpreter),
		T(test_input),
		T(test_unwanted_input),
		T(test_output_congestion),
		T(test_background_process),
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
		T(test_put),
		T(test_put_large),
		T(test_put_errors),
		T(test_put_broken_off),
		T(test_dial),
		T(test_dial_refused),
		T(test_dial_congestion),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

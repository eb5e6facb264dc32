/* SPDX-License-Identifier: Apache-2.0 */
/* The agent server over socket pairs: copies and port connections. Runs as an ordinary user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "guest_client.h"

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

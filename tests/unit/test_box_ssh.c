/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's side of the ssh-agent: a guest that opens connections which nobody takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "box/box.h"
#include "wire/link.h"

#define CONNECTIONS 2000u

static int their_end = -1; /* hutch-ssh's, which nobody reads */

int worker_spawn(struct box *b, enum worker_id id, const struct child_spec *spec, struct err *err)
{
	(void)b;
	(void)err;
	assert_int_equal(id, WORKER_SSH);
	assert_int_equal(spec->nfds, 2);
	their_end = dup(spec->fds[0]);
	return 0;
}

void box_advance(struct box *b)
{
	(void)b;
}

void control_progress(struct box *b, const char *fmt, ...)
{
	(void)b;
	fail_msg("%s", fmt);
}

/* A socket that the supervisor finds in SSH_AUTH_SOCK. */
static int listen_as_agent(char *dir)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_non_null(mkdtemp(dir));
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/agent", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	setenv("SSH_AUTH_SOCK", a.sun_path, 1);
	return fd;
}

/* Returns at all, whatever hutch-ssh does: while it waits for its user's word, the rest of the sandbox
 * goes on. */
static void a_flood_of_connections_is_dropped(void **state)
{
	char dir[] = "/tmp/hutch-ssh-XXXXXX";
	static char name[] = "box";
	struct box b = {.ssh_link = -1,
		.ssh_w.fd = -1,
		.spec = {.name = name, .ssh_any_key = true}};
	int agent = listen_as_agent(dir), fds[FD_PASS_MAX];
	struct link_msg m;
	unsigned taken = 0;
	size_t n;

	(void)state;
	b.loop = loop_new(NULL);
	assert_int_equal(ssh_start(&b, NULL), 0);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		ssh_connection(&b, dup(agent));
	for (; fd_recv(their_end, &m, sizeof(m), fds, &n) > 0; taken++) {
		assert_int_equal(m.type, LINK_SSH_AGENT);
		assert_int_equal(n, 1);
		close(fds[0]);
	}
	assert_in_range(taken, 1, CONNECTIONS - 1);
	ssh_connection(&b, dup(agent)); /* there is room again */
	assert_int_equal(fd_recv(their_end, &m, sizeof(m), fds, &n), sizeof(m));
	close(fds[0]);
	ssh_stop(&b);
	loop_free(b.loop);
	close(their_end);
	close(agent);
	unlink(getenv("SSH_AUTH_SOCK"));
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_flood_of_connections_is_dropped)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

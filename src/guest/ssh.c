/* SPDX-License-Identifier: Apache-2.0 */
/* The ssh-agent's socket in the guest. What is written there is hostile to the host, not to us:
 * bytes are passed on to hutch-ssh over vsock, connection by connection. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/fd.h"
#include "guest/init.h"
#include "guest/server_internal.h"

static void on_client(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct server *srv = container_of(w, struct server, ssh_w);
	struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = AGENT_SSH_PORT};
	_close_ int local = accept4(srv->ssh_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	_close_ int up = -1;

	(void)l;
	(void)events;
	if (local < 0 || srv->n_streams + srv->n_dials >= STREAMS_MAX)
		return;
	/* The device answers at once, one way or the other. */
	up = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (up < 0 || connect(up, (struct sockaddr *)&host, sizeof(host)) < 0 ||
		fd_set_nonblock(up, true) < 0)
		return;
	relay_start(srv, steal_fd(&up), steal_fd(&local));
}

int server_offer_ssh(struct server *srv, const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	srv->ssh_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (srv->ssh_fd < 0 || bind(srv->ssh_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		chown(path, AGENT_UID, AGENT_UID) < 0 || chmod(path, 0600) < 0 ||
		listen(srv->ssh_fd, 16) < 0 ||
		loop_add(srv->loop, &srv->ssh_w, srv->ssh_fd, EPOLLIN, on_client) < 0)
		return err_errno(err, "%s", path);
	return 0;
}

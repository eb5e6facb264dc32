/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-vmm --serve: the devices, offered to qemu over vhost-user. The main thread serves network and
 * vsock, a thread of its own the files. */
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "dev/fs.h"
#include "dev/net.h"
#include "dev/vsock.h"
#include "virtio/vhost_user.h"
#include "vmm/netgate.h"
#include "vmm/vmm.h"

/* A front end that hung up or broke the protocol: the virtual machine is gone. */
static void on_frontend_gone(struct vhost_user *vu, void *arg)
{
	const char *why = vhost_user_error(vu)->msg;

	log_info("device=%s front end gone%s%s", (const char *)arg, *why ? ": " : "", why);
	_exit(0);
}

static void *serve_files(void *arg)
{
	const struct vmm *v = arg;
	struct err err;
	struct loop *loop = loop_new(&err);
	struct fsdev *dev = fsdev_new(v->files);

	seal_files(v->exports, v->n_exports);
	if (!loop || !vhost_user_new(loop, VMM_FD_FS, fsdev_vdev(dev), on_frontend_gone,
			     (void *)(uintptr_t)"fs", &err) ||
		loop_run(loop, &err) < 0)
		log_error("files: %s", err.msg);
	_exit(1);
}

static void on_net_connect(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct vmm *v = container_of(w, struct vmm, net_w);
	int fd = accept4(VMM_FD_NET, NULL, NULL, SOCK_CLOEXEC);
	struct vdev *net = netdev_vdev(netgate_device(v->netgate));
	struct err err;

	if (fd < 0)
		return;
	/* One front end for life. */
	loop_del(l, w);
	close(VMM_FD_NET);
	if (!vhost_user_new(l, fd, net, on_frontend_gone, (void *)(uintptr_t)"net", &err)) {
		log_error("net: %s", err.msg);
		_exit(1);
	}
}

int serve_start(struct vmm *v, struct err *err)
{
	pthread_t thread;

	if (!vhost_user_new(v->loop, VMM_FD_VSOCK, vsock_vdev(v->vsock), on_frontend_gone,
		    (void *)(uintptr_t)"vsock", err))
		return -1;
	if (loop_add(v->loop, &v->net_w, VMM_FD_NET, EPOLLIN, on_net_connect) < 0)
		return err_errno(err, "net socket");
	if (pthread_create(&thread, NULL, serve_files, v) != 0)
		return err_errno(err, "thread");
	return 0;
}

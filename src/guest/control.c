/* SPDX-License-Identifier: Apache-2.0 */
/* The control stream: handshake, then requests of the supervisor. */
#include "guest/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/fd.h"

#define CA_TYPICAL  (512u << 10)
#define CA_MAX      (4u << 20)
#define FAREWELL_MS 1000

int control_connect(struct err *err)
{
	struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = AGENT_CONTROL_PORT};
	_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0)
		return err_errno(err, "connect to the host over vsock");
	return steal_fd(&fd);
}

static void put_hello(struct buf *b)
{
	size_t mark = agent_frame_begin(b, AGENT_HELLO);
	struct utsname u;

	buf_put_le32(b, AGENT_VERSION);
	agent_put_string(b, uname(&u) == 0 ? u.release : "");
	agent_frame_end(b, mark);
}

/* DONE, READY or ERROR for a request. */
static void answer(struct stream *s, enum agent_type good, int result, const struct err *err)
{
	if (result < 0)
		agent_put_error(&s->out, (uint32_t)err->errnum, err->msg);
	else
		agent_put(&s->out, good, NULL, 0);
	stream_flush(s);
}

static void end(struct control *c, const char *why)
{
	stream_free(c->s);
	c->s = NULL;
	c->ops->shutdown(c->ctx, why);
}

static int on_setup(struct control *c, struct rd payload)
{
	struct agent_setup setup;
	struct err err = {0};
	int result;

	if (agent_get_setup(payload, &setup) < 0) {
		agent_setup_done(&setup);
		return -1;
	}
	result = c->ops->setup(c->ctx, &setup, &c->ca, &err);
	agent_setup_done(&setup);
	buf_done(&c->ca);
	c->ready = result == 0;
	answer(c->s, AGENT_READY, result, &err);
	return 0;
}

static int on_export(struct control *c, struct rd payload)
{
	struct agent_export e;
	struct err err = {0};
	int result = agent_get_export(payload, &e);

	if (result == 0)
		answer(c->s, AGENT_DONE, c->ops->export(c->ctx, &e, &err), &err);
	agent_export_done(&e);
	return result;
}

static int control_frame(struct stream *s, uint8_t type, struct rd payload)
{
	struct control *c = s->owner;
	uint64_t ns;

	switch (type) {
	case AGENT_CA:
		if (c->ready || buf_len(&c->ca) + rd_left(&payload) > CA_MAX)
			return -1;
		if (!buf_len(&c->ca))
			buf_reserve(&c->ca, CA_TYPICAL); /* instead of growing step by step */
		return buf_put(&c->ca, payload.p, rd_left(&payload));
	case AGENT_SETUP:
		return c->ready ? -1 : on_setup(c, payload);
	case AGENT_EXPORT:
		return c->ready ? on_export(c, payload) : -1;
	case AGENT_CLOCK:
		ns = rd_le64(&payload);
		if (!rd_done(&payload))
			return -1;
		c->ops->clock(c->ctx, ns);
		return 0;
	case AGENT_SHUTDOWN:
		if (!rd_done(&payload))
			return -1;
		/* The stream stays open: its end tells the host that we are gone. */
		c->ops->shutdown(c->ctx, "asked by the host");
		return 0;
	default:
		return -1;
	}
}

static void control_end(struct stream *s)
{
	end(s->owner, "the supervisor is gone");
}

static const struct stream_ops control_stream_ops = {.frame = control_frame, .end = control_end};

int control_open(struct control *c, struct loop *l, int fd, const struct control_ops *ops,
	void *ctx, struct err *err)
{
	*c = (struct control){.ops = ops, .ctx = ctx};
	buf_init(&c->ca, CA_MAX);
	c->s = stream_new(l, fd, &control_stream_ops, c);
	if (!c->s)
		return err_errno(err, "control stream");
	put_hello(&c->s->out);
	stream_flush(c->s);
	return 0;
}

void control_close(struct control *c)
{
	stream_free(c->s);
	c->s = NULL;
	buf_done(&c->ca);
}

void control_fail(int fd, bool greeted, const struct err *err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;
	_buf_ struct buf b;

	buf_init(&b, AGENT_PAYLOAD_MAX);
	if (!greeted)
		put_hello(&b);
	agent_put_error(&b, (uint32_t)err->errnum, err->msg);
	if (fd_set_nonblock(fd, false) == 0 && fd_write_all(fd, buf_head(&b), buf_len(&b)) == 0)
		while (poll(&p, 1, FAREWELL_MS) > 0 && read(fd, &byte, 1) > 0)
			;
	close(fd);
}

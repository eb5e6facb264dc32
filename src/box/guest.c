/* SPDX-License-Identifier: Apache-2.0 */
/* The control stream with hutch-init: handshake, configuration, power-off. */
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "base/log.h"
#include "box/box.h"
#include "image/image.h"

#define CA_BUNDLE_MAX (4u << 20)

static int on_frame(struct stream *s, uint8_t type, struct rd r)
{
	struct box *b = container_of(s, struct box, control);
	_free_ char *text = NULL;
	struct err err;
	char safe[256];
	uint32_t num;

	switch (type) {
	case AGENT_HELLO:
		num = rd_le32(&r);
		text = agent_get_string(&r);
		if (!rd_done(&r) || b->guest_hello)
			return -1;
		if (num != AGENT_VERSION) {
			err_set(&err, ERR_ENV, "the guest speaks agent protocol %u, not %u", num,
				AGENT_VERSION);
			err_hint(&err, "hutch image build");
			box_fail(b, &err);
			return 0;
		}
		b->guest_hello = true;
		b->guest_kernel = xstrdup(log_safe(safe, sizeof(safe), text, strlen(text)));
		log_info("guest: kernel %s", b->guest_kernel);
		box_advance(b);
		return 0;
	case AGENT_READY:
		if (!rd_done(&r) || b->state != BOX_SETUP || b->setup)
			return -1;
		setup_start(b);
		return 0;
	case AGENT_ERROR:
		if (agent_get_error(r, &num, &text) < 0)
			return -1;
		err_set(&err, ERR_ENV, "guest: %s",
			log_safe(safe, sizeof(safe), text, strlen(text)));
		box_fail(b, &err);
		return 0;
	case AGENT_DONE:
		return rd_done(&r) ? 0 : -1;
	default:
		return -1;
	}
}

static void on_end(struct stream *s)
{
	struct box *b = container_of(s, struct box, control);
	struct err err;

	stream_close(s);
	if (b->state == BOX_READY)
		box_guest_leaves(b);
	if (b->state >= BOX_STOPPING)
		return; /* the guest powers off; qemu's end follows */
	err_set(&err, ERR_PEER, "the guest's agent went away");
	err_hint(&err, "hutch logs %s", b->name);
	box_fail(b, &err);
}

static const struct stream_ops control_ops = {.frame = on_frame, .end = on_end};

void guest_accept_control(struct box *b, int fd)
{
	if (stream_open(&b->control, b->loop, fd, &control_ops) < 0)
		log_error("control stream: cannot be watched");
}

/* The host's own certificate bundle, so that a corporate CA works inside too. SSL_CERT_FILE as OpenSSL
 * has it: the gate and the guest trust the same. */
static void read_host_ca(struct buf *b)
{
	const char *places[] = {getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (places[i] && fs_read_file(AT_FDCWD, places[i], b, NULL) == 0)
			return;
		buf_reset(b);
	}
	log_warn("no CA bundle found on this host");
}

/* Copy the certificates of @from that @known does not have, to the letter, into @to. */
static void put_unknown(struct buf *to, char *from, const char *known)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";

	for (char *at = from; (at = strstr(at, begin));) {
		char *stop = strstr(at, end), after;

		if (!stop)
			return;
		stop += sizeof(end) - 1;
		after = *stop;
		*stop = '\0';
		if (!strstr(known, at)) {
			buf_puts(to, at);
			buf_puts(to, "\n");
		}
		*stop = after;
		at = stop;
	}
}

void guest_prepare(struct box *b, const char *image_path)
{
	_buf_ struct buf host, image;

	buf_init(&host, CA_BUNDLE_MAX);
	buf_init(&image, CA_BUNDLE_MAX);
	buf_init(&b->host_ca, CA_BUNDLE_MAX);
	read_host_ca(&host);
	if (image_ca(image_path, &image) < 0)
		buf_reset(&image);
	put_unknown(&b->host_ca, buf_cstr(&host), buf_cstr(&image));
}

static void send_ca(struct box *b)
{
	buf_puts(&b->host_ca, b->ca_pem);
	while (buf_len(&b->host_ca)) {
		size_t n = MIN(buf_len(&b->host_ca), (size_t)AGENT_DATA_MAX);

		agent_put(&b->control.out, AGENT_CA, buf_head(&b->host_ca), n);
		buf_consume(&b->host_ca, n);
	}
	buf_done(&b->host_ca);
}

/* Named by its place among the exports, as exports_send() does. */
static void add_export(struct agent_setup *s, const struct spec_mount *m)
{
	struct agent_export *e = &s->exports[s->n_exports];

	e->name = xasprintf("%zu", s->n_exports++);
	e->path = xstrdup(m->guest_path);
	e->read_only = m->read_only;
}

int guest_send_setup(struct box *b, struct err *err)
{
	struct agent_setup s = {0};
	struct timespec now;

	send_ca(b);
	clock_gettime(CLOCK_REALTIME, &now);
	s.hostname = xstrdup(b->name);
	s.clock_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	s.exports = xcalloc(b->spec.n_mounts + 1, sizeof(*s.exports));
	for (size_t i = 0; i < b->spec.n_mounts; i++)
		add_export(&s, &b->spec.mounts[i]);
	if (b->modules.host_path)
		add_export(&s, &b->modules);
	strv_copy(&s.env, &b->spec.env);
	agent_put_setup(&b->control.out, &s);
	agent_setup_done(&s);
	if (b->control.out.failed)
		return err_set(err, ERR_USER, "the sandbox's configuration is too large for its agent");
	stream_flush(&b->control);
	return 0;
}

void guest_shutdown(struct box *b)
{
	agent_put(&b->control.out, AGENT_SHUTDOWN, NULL, 0);
	stream_flush(&b->control);
}

void guest_close(struct box *b)
{
	stream_close(&b->control);
	free(b->guest_kernel);
	b->guest_kernel = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net against a driver that posts buffers of every shape. */
#include "base/log.h"
#include "dev/net.h"
#include "net_world.h"
#include "vq_driver.h"

#define F_GUEST_CSUM (1ull << 1)
#define F_MTU        (1ull << 3)
#define F_GUEST_TSO4 (1ull << 7)
#define F_MRG_RXBUF  (1ull << 15)
#define ALL          (F_GUEST_CSUM | F_MTU | F_GUEST_TSO4 | F_MRG_RXBUF)
#define REMOTE       0xc6120001u
#define HDR          12u

enum { RX, TX };

struct bed {
	struct world w; /* its owner; its link is not used */
	struct loop *loop;
	struct netdev *nd;
	struct vdev *d;
	struct vqd_mem mem;
	struct vqd q[2];
	unsigned interrupts[2];
	uint64_t buf[VIRTQ_SIZE_MAX]; /* receive buffers by head */
	uint32_t seq, ack;
};

static void interrupt(struct vdev *d, unsigned q)
{
	((struct bed *)d->transport)->interrupts[q]++;
}

static void start(struct bed *b, uint64_t features, uint16_t size)
{
	b->d->features = features;
	b->d->broken = false;
	for (unsigned i = 0; i < 2; i++) {
		vqd_init(&b->q[i], &b->mem, size);
		assert_true(vqd_start(&b->q[i], &b->d->vq[i], false));
	}
}

static int setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	log_init("test", "netdev", LOG_ERROR);
	w_init(&b->w, 64, 64);
	b->loop = loop_new(NULL);
	b->nd = netdev_new(b->loop, b->w.net);
	b->d = netdev_vdev(b->nd);
	b->d->transport = b;
	b->d->interrupt = interrupt;
	vqd_mem_init(&b->mem, 16 << 20);
	start(b, ALL, 256);
	*state = b;
	return 0;
}
static int teardown(void **state)
{
	struct bed *b = *state;

	netdev_free(b->nd);
	w_done(&b->w);
	loop_free(b->loop);
	vqd_mem_done(&b->mem);
	free(b);
	return 0;
}

/* Post one receive buffer of @n pieces of @len bytes. */
static void post(struct bed *b, unsigned n, uint32_t len)
{
	struct vqd_seg segs[64];
	uint64_t gpa = vqd_alloc(&b->mem, (uint64_t)n * len, 1);
	int head;

	for (unsigned i = 0; i < n; i++)
		segs[i] = (struct vqd_seg){gpa + (uint64_t)i * len, len};
	head = vqd_add(&b->q[RX], segs, 0, n);
	assert_true(head >= 0);
	b->buf[head] = gpa;
}

/* Send @len bytes at @p, preceded by a header with @flags, in pieces of @cut. */
static void transmit(struct bed *b, uint8_t flags, const void *p, size_t len, size_t cut)
{
	uint64_t gpa = vqd_alloc(&b->mem, HDR + len, 1);
	uint8_t *at = vqd_ptr(&b->mem, gpa);
	struct vqd_seg segs[200];
	unsigned n = 0;

	memset(at, 0, HDR);
	at[0] = flags;
	memcpy(at + HDR, p, len);
	for (size_t off = 0; off < HDR + len; off += cut)
		segs[n++] = (struct vqd_seg){gpa + off, (uint32_t)MIN(cut, HDR + len - off)};
	assert_true(vqd_add(&b->q[TX], segs, n, 0) >= 0);
	b->d->ops->kick(b->d, TX);
}

/* The next frame that the driver received, whole, into @to; 0: none. The header is checked. */
static size_t receive(struct bed *b, uint8_t *to, uint8_t vnet[HDR])
{
	unsigned bufs = 1;
	size_t n = 0;

	for (unsigned i = 0; i < bufs; i++) {
		uint32_t len;
		int head = vqd_get_used(&b->q[RX], &len);
		const uint8_t *p;

		if (head < 0 && i == 0)
			return 0;
		assert_true(head >= 0); /* all of one frame are there at once */
		p = vqd_ptr(&b->mem, b->buf[head]);
		if (i == 0) {
			memcpy(vnet, p, HDR);
			bufs = vnet[10] | (unsigned)vnet[11] << 8;
			assert_true(bufs > 0 && bufs <= 64);
		}
		memcpy(to + n, p, len);
		n += len;
	}
	memmove(to, to + HDR, n - HDR);
	return n - HDR;
}

static size_t echo(uint8_t *p, size_t len)
{
	memset(p + 34, 0, 8 + len);
	p[34] = 8;
	set16(p + 36, (uint16_t)~w_sum(0, p + 34, 8 + len));
	w_ip(p, NET_GATEWAY_IP, 1, 8 + len);
	return 42 + len;
}

static void say(struct bed *b, unsigned flags, const void *data, size_t len)
{
	uint8_t *p = malloc(100 + len);

	transmit(b, 0, p,
		w_tcp(p, &(struct seg){REMOTE, 5000, 80, b->seq, b->ack, flags, 0xffff, NULL, 0,
				 data, len}),
		4096);
	b->seq += (uint32_t)len + !!(flags & SYN);
	free(p);
}

static struct got receive_tcp(struct bed *b, uint8_t *to)
{
	uint8_t vnet[HDR];
	struct w_frame f = {.p = to};
	struct got g;

	f.len = receive(b, to, vnet);
	assert_true(f.len > 0);
	f.tx.partial = vnet[0] & 1;
	if (f.tx.partial) {
		assert_int_equal(vnet[6], 34);
		assert_int_equal(vnet[8], 16);
	}
	f.tx.gso_size = (uint16_t)(vnet[4] | vnet[5] << 8);
	assert_int_equal(vnet[1], f.tx.gso_size ? 1 : 0);
	g = w_parse(&f);
	return g;
}

static struct w_flow *connected(struct bed *b)
{
	uint8_t buf[200];

	b->seq = 9;
	say(b, SYN, NULL, 0);
	net_flow_accept(b->w.net, b->w.last);
	net_flush(b->w.net);
	b->ack = receive_tcp(b, buf).seq + 1;
	say(b, ACK, NULL, 0);
	return &b->w.flows[b->w.last.slot];
}

static void config_space(void **state)
{
	static const uint8_t want[12] = {2, 0x48, 0, 0, 0, 0x15, 1, 0, 1, 0, 0xf0, 0xff};
	struct bed *b = *state;
	uint8_t got[40];

	for (size_t off = 0; off < 20; off++) {
		memset(got, 0xaa, sizeof(got));
		b->d->ops->config_read(b->d, off, got, 20);
		for (size_t i = 0; i < 20; i++)
			assert_int_equal(got[i], off + i < 12 ? want[off + i] : 0);
		assert_int_equal(got[20], 0xaa);
	}
}

static void pieces_of_any_size(void **state)
{
	struct bed *b = *state;
	uint8_t p[2000], got[2000], vnet[HDR];
	size_t len = echo(p, 300);

	/* Frames out in pieces of 2 to 400 bytes; buffers in of as many. */
	for (unsigned cut = 2; cut < 400; cut += cut / 2) {
		for (int i = 0; i < 8; i++)
			post(b, 1 + cut % 5, MAX(cut, 13u));
		b->mem.used = (b->mem.used + 63) & ~63ull;
		transmit(b, 0, p, len, cut);
		assert_int_equal(vqd_get_used(&b->q[TX], NULL) >= 0, 1);
		while (receive(b, got, vnet) == 0) {
			post(b, 1 + cut % 5, MAX(cut, 13u));
			b->d->ops->kick(b->d, RX);
		}
		assert_int_equal(got[34], 0);
		assert_memory_equal(got + 38, p + 38, len - 38);
		assert_false(b->d->broken);
	}
	assert_true(b->interrupts[RX] > 0 && b->interrupts[TX] > 0);
}

static void large_segments(void **state)
{
	struct bed *b = *state;
	uint8_t *got = malloc(70000), *data = malloc(65000);
	struct w_flow *f;
	struct got g;

	for (int i = 0; i < 60; i++)
		post(b, 1, 1530);
	f = connected(b);
	for (size_t i = 0; i < 65000; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	memcpy(f->out, data, 65000);
	f->out_len = 65000;
	net_flow_readable(b->w.net, f->name);
	net_flush(b->w.net);
	g = receive_tcp(b, got);
	assert_int_equal(g.len, 65000);
	assert_int_equal(g.gso, 536);
	assert_memory_equal(g.data, data, 65000);
	/* And one from the guest, with an unfinished checksum. */
	{
		uint8_t *p = malloc(66000);
		size_t len = w_tcp(p, &(struct seg){REMOTE, 5000, 80, b->seq, b->ack, ACK, 9, NULL,
					      0, data, 60000});

		p[50] ^= 0x55;
		transmit(b, 1, p, len, 4096);
		assert_int_equal(f->in_len, 60000);
		assert_memory_equal(f->in, data, 60000);
		transmit(b, 0, p, len, 4096); /* wrong, and not excused */
		assert_int_equal(f->in_len, 60000);
		free(p);
	}
	free(data);
	free(got);
}

static void without_mergeable(void **state)
{
	struct bed *b = *state;
	uint8_t *got = malloc(70000);
	struct w_flow *f;
	size_t total = 0;

	start(b, F_GUEST_CSUM | F_GUEST_TSO4, 256);
	post(b, 1, 1530);
	f = connected(b);
	f->out_len = 100000;
	memset(f->out, 7, f->out_len);
	for (int i = 0; i < 3; i++)
		post(b, 17, 4096);
	post(b, 1, 1530);
	net_flow_readable(b->w.net, f->name);
	net_flush(b->w.net);
	for (int i = 0; i < 3 && total < 65000; i++) {
		uint8_t vnet[HDR];
		size_t n = receive(b, got, vnet);

		assert_int_equal(vnet[10], 1);
		assert_true(n > 54);
		total += n - 54;
	}
	assert_true(total >= 65000);
	free(got);
}

/* No buffers: the stack waits, and goes on where it was when the guest posts some. */
static void runs_dry(void **state)
{
	struct bed *b = *state;
	uint8_t *got = malloc(70000);
	struct w_flow *f;
	size_t n = 0;

	post(b, 1, 1530);
	f = connected(b);
	for (size_t i = 0; i < 60000; i++)
		f->out[i] = (uint8_t)(i * 13 >> 2);
	f->out_len = 60000;
	net_flow_readable(b->w.net, f->name);
	net_flush(b->w.net);
	while (n < 60000) {
		struct got g;

		post(b, 1, 1530);
		b->d->ops->kick(b->d, RX);
		g = receive_tcp(b, got);
		assert_int_equal(g.seq, b->ack);
		assert_memory_equal(g.data, f->out + n, g.len);
		n += g.len;
		b->ack += (uint32_t)g.len;
		say(b, ACK, NULL, 0);
	}
	assert_false(b->d->broken);
	free(got);
}

static void many_frames_in_turns(void **state)
{
	struct bed *b = *state;
	unsigned n = 0;

	start(b, ALL, 1024);
	for (int i = 0; i < 1000; i++) {
		struct vqd_seg s = {vqd_alloc(&b->mem, 64, 1), 64};

		assert_true(vqd_add(&b->q[TX], &s, 1, 0) >= 0);
	}
	b->d->ops->kick(b->d, TX);
	while (vqd_get_used(&b->q[TX], NULL) >= 0)
		n++;
	assert_true(n < 1000); /* others had their turn */
	for (int i = 0; i < 10; i++)
		loop_once(b->loop, 1, NULL);
	while (vqd_get_used(&b->q[TX], NULL) >= 0)
		n++;
	assert_int_equal(n, 1000);
}

/* Buffers taken and not used go back when the memory behind a running queue moves. */
static void reset_gives_back(void **state)
{
	struct bed *b = *state;
	uint8_t p[200], got[200], vnet[HDR];
	struct w_flow *f;

	post(b, 1, 1530);
	f = connected(b);
	for (int i = 0; i < 10; i++)
		post(b, 1, 1530);
	/* A frame begun (64 KiB would fit) and not committed: there is nothing to read. */
	net_flow_readable(b->w.net, f->name);
	net_flush(b->w.net);
	assert_int_equal(b->d->vq[RX].last_avail, 11);
	b->d->ops->reset(b->d);
	assert_int_equal(b->d->vq[RX].last_avail, 1);
	assert_int_equal(f->closes, 1);
	transmit(b, 0, p, echo(p, 20), 100);
	assert_int_equal(receive(b, got, vnet), 62);
}

/* A frame that no buffer of this driver can hold does not stop those behind it. */
static void too_small_for_one(void **state)
{
	struct bed *b = *state;
	uint8_t p[8000], got[8000], vnet[HDR];

	start(b, 0, 256);
	post(b, 1, 200);
	transmit(b, 0, p, echo(p, 300), 1000);
	assert_int_equal(receive(b, got, vnet), 0);
	transmit(b, 0, p, echo(p, 20), 1000);
	assert_int_equal(receive(b, got, vnet), 62);
	/* Mergeable, but one frame would need more buffers than it may have. */
	b->d->ops->reset(b->d);
	start(b, ALL, 256);
	for (int i = 0; i < 100; i++)
		post(b, 1, 20);
	transmit(b, 0, p, echo(p, 3000), 1000);
	transmit(b, 0, p, echo(p, 21), 1000);
	assert_int_equal(receive(b, got, vnet), 63);
	assert_false(b->d->broken);
	/* Buffers that cannot even hold headers are no buffers. */
	b->d->ops->reset(b->d);
	start(b, 0, 256);
	for (int i = 0; i < 8; i++)
		post(b, 1, 74);
	connected(b);
	net_flow_reset(b->w.net, b->w.last);
	net_flush(b->w.net);
	assert_false(b->d->broken);
	start(b, 0, 256);
	b->d->ops->reset(b->d);
	post(b, 1, 74);
	post(b, 1, 66);
	b->w.flows[connected(b)->name.slot].out_len = 100;
	net_flow_readable(b->w.net, b->w.last);
	net_flush(b->w.net);
	assert_true(b->d->broken);
}

static void hostile(void **state)
{
	static const struct {
		const char *what;
		unsigned q, n_out, n_in;
		uint32_t len;
	} rows[] = {
		{"frame shorter than the header", TX, 1, 0, 11},
		{"frame of dust", TX, 5, 0, 2},
		{"writable frame", TX, 1, 1, 60},
		{"only writable frame", TX, 0, 1, 60},
		{"receive buffer of 12 bytes", RX, 0, 1, 12},
		{"receive buffer of dust", RX, 0, 40, 0},
		{"readable receive buffer", RX, 1, 1, 2000},
		{"only readable receive buffer", RX, 1, 0, 2000},
	};
	struct bed *b = *state;
	uint8_t p[200], got[200], vnet[HDR];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vqd_seg segs[64];

		print_message("# %s\n", rows[i].what);
		b->mem.used = 0;
		for (unsigned j = 0; j < 2; j++)
			virtq_stop(&b->d->vq[j]);
		b->d->ops->reset(b->d);
		start(b, ALL, 256);
		for (unsigned j = 0; j < rows[i].n_out + rows[i].n_in; j++)
			segs[j] = (struct vqd_seg){vqd_alloc(&b->mem, 4096, 1), rows[i].len};
		assert_true(vqd_add(&b->q[rows[i].q], segs, rows[i].n_out, rows[i].n_in) >= 0);
		if (rows[i].q == RX)
			transmit(b, 0, p, echo(p, 20), 100);
		else
			b->d->ops->kick(b->d, TX);
		assert_true(b->d->broken);
		b->d->ops->kick(b->d, RX);
		net_flush(b->w.net);
	}
	/* After a reset it serves again. */
	for (unsigned j = 0; j < 2; j++)
		virtq_stop(&b->d->vq[j]);
	b->d->ops->reset(b->d);
	start(b, ALL, 256);
	post(b, 1, 1530);
	transmit(b, 0, p, echo(p, 20), 100);
	assert_int_equal(receive(b, got, vnet), 62);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(config_space), T(pieces_of_any_size),
		T(large_segments), T(without_mergeable), T(runs_dry), T(many_frames_in_turns),
		T(reset_gives_back), T(too_small_for_one), T(hostile)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-fs device: FUSE messages through real queues, and a driver that breaks them. */
#include "fuse_client.h"

#include <linux/virtio_fs.h>

#include "dev/fs.h"
#include "vq_driver.h"

struct rig {
	struct client *c; /* for its directories and its server */
	struct fsdev *fs;
	struct vdev *dev;
	struct vqd_mem mem;
	struct vqd q[2];
	uint64_t out, in; /* guest buffers of a page each, and then 1 MiB of data */
	unsigned interrupts[2];
};

static void on_interrupt(struct vdev *d, unsigned q)
{
	((struct rig *)d->transport)->interrupts[q]++;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->c = client_new(64, 0);
	r->fs = fsdev_new(r->c->s);
	r->dev = fsdev_vdev(r->fs);
	r->dev->interrupt = on_interrupt;
	r->dev->transport = r;
	vqd_mem_init(&r->mem, 4 << 20);
	for (unsigned i = 0; i < 2; i++) {
		vqd_init(&r->q[i], &r->mem, 512);
		assert_true(vqd_start(&r->q[i], &r->dev->vq[i], true));
	}
	r->out = vqd_alloc(&r->mem, 4096, 4096);
	r->in = vqd_alloc(&r->mem, 4096 + (1 << 20), 4096);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	fsdev_free(r->fs);
	client_free(r->c);
	vqd_mem_done(&r->mem);
	free(r);
	return 0;
}

/* Put a message into guest memory; its length. */
static uint32_t message(struct rig *r, uint32_t op, uint64_t node, const void *arg, size_t len)
{
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof(h) + len), .opcode = op, .unique = op, .nodeid = node};
	uint8_t *p = vqd_ptr(&r->mem, r->out);

	memcpy(p, &h, sizeof(h));
	if (len)
		memcpy(p + sizeof(h), arg, len);
	return h.len;
}

static void test_requests(void **state)
{
	struct rig *r = *state;
	struct fuse_out_header *o = vqd_ptr(&r->mem, r->in);
	struct fuse_forget_in forget = {1};
	struct vqd_seg segs[3];
	uint32_t len, used;

	put_file(r->c->share, "f", "");
	/* header, name and answer in descriptors of their own, as Linux sends them */
	len = message(r, FUSE_LOOKUP, r->c->w, "f", 2);
	segs[0] = (struct vqd_seg){r->out, 40};
	segs[1] = (struct vqd_seg){r->out + 40, len - 40};
	segs[2] = (struct vqd_seg){r->in, 4096};
	assert_true(vqd_add(&r->q[1], segs, 2, 1) >= 0);
	r->dev->ops->kick(r->dev, 1);
	assert_true(vqd_get_used(&r->q[1], &used) >= 0);
	assert_int_equal(used, 16 + sizeof(struct fuse_entry_out));
	assert_int_equal(o->error, 0);
	assert_int_equal(o->len, used);
	assert_int_equal(r->interrupts[1], 1);
	assert_int_equal(fuse_usage(r->c->s).inodes, 4);

	/* FORGET on the other queue has no writable part and comes back empty */
	{
		struct fuse_entry_out e;

		memcpy(&e, o + 1, sizeof(e));
		len = message(r, FUSE_FORGET, e.nodeid, &forget, sizeof(forget));
	}
	segs[0] = (struct vqd_seg){r->out, len};
	assert_true(vqd_add(&r->q[0], segs, 1, 0) >= 0);
	r->dev->ops->kick(r->dev, 0);
	assert_true(vqd_get_used(&r->q[0], &used) >= 0);
	assert_int_equal(used, 0);
	assert_int_equal(fuse_usage(r->c->s).inodes, 3);

	/* a stopped queue forgets nothing that the guest knows */
	r->dev->ops->reset(r->dev);
	assert_int_equal(fuse_usage(r->c->s).inodes, 3);
}

/* A megabyte in 256 pages, the largest READ that was negotiated. */
static void test_large_read(void **state)
{
	struct rig *r = *state;
	struct vqd_seg segs[258];
	struct fuse_read_in in = {.size = 1 << 20};
	uint8_t *page = malloc(4096), *got = vqd_ptr(&r->mem, r->in);
	int fd = openat(r->c->share, "big", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	uint32_t used;
	uint64_t node;

	for (unsigned i = 0; i < 256; i++) {
		memset(page, (int)i, 4096);
		assert_int_equal(write(fd, page, 4096), 4096);
	}
	close(fd);
	free(page);
	node = c_node(r->c, r->c->w, "big");
	assert_int_equal(c_open(r->c, node, O_RDONLY, &in.fh), 0);
	segs[0] = (struct vqd_seg){r->out, message(r, FUSE_READ, node, &in, sizeof(in))};
	segs[1] = (struct vqd_seg){r->in, 16};
	for (unsigned i = 0; i < 256; i++) /* backwards in memory */
		segs[2 + i] = (struct vqd_seg){r->in + 4096 + 4096 * (255 - i), 4096};
	assert_true(vqd_add(&r->q[1], segs, 1, 257) >= 0);
	r->dev->ops->kick(r->dev, 1);
	assert_true(vqd_get_used(&r->q[1], &used) >= 0);
	assert_int_equal(used, 16 + (1 << 20));
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(got[4096 + 4096 * (255 - i) + 17], i);
}

static void test_broken_driver(void **state)
{
	struct rig *r = *state;
	struct vqd_seg bad = {0x1000, 64}; /* no memory there */
	struct vqd_seg good = {r->out, 40};

	assert_true(vqd_add(&r->q[1], &bad, 1, 0) >= 0);
	r->dev->ops->kick(r->dev, 1);
	assert_true(r->dev->broken);
	assert_true(vqd_add(&r->q[0], &good, 1, 0) >= 0);
	r->dev->ops->kick(r->dev, 0);
	assert_int_equal(vqd_get_used(&r->q[0], NULL), -1);
	assert_int_equal(r->interrupts[0] + r->interrupts[1], 0);
}

static void test_config(void **state)
{
	struct rig *r = *state;
	struct virtio_fs_config cfg;
	uint8_t rest[8];

	assert_int_equal(r->dev->ops->id, 26);
	assert_int_equal(r->dev->ops->n_queues, 2);
	r->dev->ops->config_read(r->dev, 0, &cfg, sizeof(cfg));
	assert_string_equal((char *)cfg.tag, "hutch");
	assert_int_equal(cfg.num_request_queues, 1);
	r->dev->ops->config_read(r->dev, 36, rest, sizeof(rest));
	assert_memory_equal(rest, "\1\0\0\0\0\0\0\0", 8);
	r->dev->ops->config_read(r->dev, SIZE_MAX - 2, rest, sizeof(rest));
	assert_memory_equal(rest, "\0\0\0\0\0\0\0\0", 8);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_requests), T(test_large_read), T(test_broken_driver), T(test_config)};

	return cmocka_run_group_tests_name("fsdev", tests, NULL, NULL);
}

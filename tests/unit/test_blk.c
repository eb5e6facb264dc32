/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: every request and every error through real queues. */
#include "blk_bed.h"

/* ---- configuration ---- */

static void config_space(void **state)
{
	struct bed *b = *state;
	struct virtio_blk_config c;
	uint8_t got[80];

	assert_int_equal(b->d->ops->id, 2);
	assert_true(b->d->ops->features & F(VIRTIO_BLK_F_DISCARD));
	assert_false(b->d->ops->features & F(VIRTIO_BLK_F_RO));
	b->d->ops->config_read(b->d, 0, &c, sizeof(c));
	assert_int_equal(c.capacity, SECTORS);
	assert_int_equal(c.seg_max, 254);
	assert_int_equal(c.blk_size, 512);
	assert_int_equal(c.wce, 1);
	assert_int_equal(c.max_discard_seg, 16);
	assert_int_equal(c.write_zeroes_may_unmap, 1);
	assert_true(c.size_max >= 4096 && (size_t)c.size_max * c.seg_max <= 4 << 20);
	for (size_t off = 0; off < 70; off++) {
		memset(got, 0xaa, sizeof(got));
		b->d->ops->config_read(b->d, off, got, 70);
		for (size_t i = 0; i < 70; i++)
			assert_int_equal(
				got[i], off + i < sizeof(c) ? ((uint8_t *)&c)[off + i] : 0);
		assert_int_equal(got[70], 0xaa);
	}
	b->d->ops->config_read(b->d, SIZE_MAX - 2, got, 8);
	assert_memory_equal(got, "\0\0\0\0\0\0\0\0", 8);
}

static void refused_disks(void **state)
{
	struct err err;
	int pipes[2], empty = memfd_create("empty", MFD_CLOEXEC), ro;
	char path[64];

	log_init("test", "blk", LOG_ERROR + 1);
	sys_reset();
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_null(blk_new(&(struct blk_config){.fd = pipes[0]}, &err));
	assert_int_equal(err.class, ERR_USER);
	assert_null(blk_new(&(struct blk_config){.fd = empty}, &err));
	assert_int_equal(err.class, ERR_USER);
	assert_null(blk_new(&(struct blk_config){.fd = -1}, &err));
	assert_int_equal(ftruncate(empty, 1000), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", empty);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_null(blk_new(&(struct blk_config){.fd = ro}, &err));
	assert_int_equal(err.class, ERR_BUG);
	/* A file system without holes; and a size that is no multiple of sectors. */
	sys.fail_range = EOPNOTSUPP;
	{
		struct blk *blk = blk_new(&(struct blk_config){.fd = empty}, &err);
		struct vdev *d = blk_vdev(blk);
		uint64_t sectors;

		assert_false(d->ops->features & F(VIRTIO_BLK_F_DISCARD));
		assert_true(d->ops->features & F(VIRTIO_BLK_F_WRITE_ZEROES));
		d->ops->config_read(d, 0, &sectors, 8);
		assert_int_equal(sectors, 1);
		assert_int_equal(blk_start(blk, BLK_THREADS_MAX + 1, NULL, NULL, &err), -1);
		blk_free(blk);
	}
	close(ro);
	close(pipes[0]);
	close(pipes[1]);
}

/* ---- requests ---- */

/* Header, data and status cut into pieces of every size, sharing descriptors as they fall. */
static void pieces_of_any_size(void **state)
{
	struct bed *b = *state;
	uint8_t *data = vqd_ptr(&b->mem, b->data);
	const uint32_t len = 1536;
	uint32_t used;

	for (unsigned cut = 7; cut < 2000; cut += 1 + cut / 3) {
		struct vqd_seg segs[400];
		uint64_t sector = cut % (SECTORS - 3);
		unsigned n_out, n_in;

		/* write: 16 + len readable bytes, one status byte */
		put_head(b, b->data, VIRTIO_BLK_T_OUT, sector);
		for (unsigned i = 0; i < len; i++)
			data[16 + i] = (uint8_t)(i * cut >> 3);
		memcpy(b->image + sector * 512, data + 16, len);
		n_out = pieces(segs, b->data, 16 + len, cut);
		segs[n_out] = (struct vqd_seg){b->status, 1};
		assert_true(vqd_add(&b->q, segs, n_out, 1) >= 0);
		b->d->ops->kick(b->d, 0);
		assert_true(vqd_get_used(&b->q, &used) >= 0);
		assert_int_equal(used, 1);
		assert_int_equal(*(uint8_t *)vqd_ptr(&b->mem, b->status), 0);
		check_image(b);

		/* read: the header in pieces, and len + 1 writable bytes */
		put_head(b, b->head, VIRTIO_BLK_T_IN, sector);
		n_out = pieces(segs, b->head, 16, 1 + cut % 16);
		memset(data, 0xee, len + 2);
		n_in = pieces(segs + n_out, b->data, len + 1, cut);
		sys.most = cut % 5 ? 0 : 333; /* short reads go on */
		assert_true(vqd_add(&b->q, segs, n_out, n_in) >= 0);
		b->d->ops->kick(b->d, 0);
		sys.most = 0;
		assert_true(vqd_get_used(&b->q, &used) >= 0);
		assert_int_equal(used, len + 1);
		assert_memory_equal(data, b->image + sector * 512, len);
		assert_int_equal(data[len], 0);
		assert_int_equal(data[len + 1], 0xee);
	}
	assert_false(b->d->broken);
}

static void get_id(void **state)
{
	struct bed *b = *state;
	uint8_t *data = vqd_ptr(&b->mem, b->data);

	for (uint32_t len = 0; len < 40; len++) {
		memset(data, 0xee, 64);
		assert_int_equal(request(b, VIRTIO_BLK_T_GET_ID, 99, len, NULL), 0);
		assert_memory_equal(data, "hutch-disk\0\0\0\0\0\0\0\0\0\0", MIN(len, 20u));
		assert_int_equal(data[MIN(len, 20u)], 0xee);
	}
}

static void bounds(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		int status;
	} rows[] = {
		{VIRTIO_BLK_T_IN, SECTORS - 1, 512, 0},
		{VIRTIO_BLK_T_IN, SECTORS - 1, 1024, 1},
		{VIRTIO_BLK_T_IN, SECTORS, 512, 1},
		{VIRTIO_BLK_T_IN, SECTORS, 0, 0},
		{VIRTIO_BLK_T_IN, SECTORS + 1, 0, 1},
		{VIRTIO_BLK_T_IN, UINT64_MAX, 512, 1},
		{VIRTIO_BLK_T_IN, UINT64_MAX / 512, 1024, 1},
		{VIRTIO_BLK_T_IN, 1ull << 55, 512, 1},
		{VIRTIO_BLK_T_IN, 0, 511, 1},
		{VIRTIO_BLK_T_IN, 0, 513, 1},
		{VIRTIO_BLK_T_OUT, SECTORS - 1, 1024, 1},
		{VIRTIO_BLK_T_OUT, UINT64_MAX - 1, 1024, 1},
		{VIRTIO_BLK_T_OUT, 1ull << 55, 512, 1},
		{VIRTIO_BLK_T_OUT, 0, 100, 1},
		{VIRTIO_BLK_T_OUT, 5, 0, 0},
		{VIRTIO_BLK_T_FLUSH, 12345678, 0, 0},
		{VIRTIO_BLK_T_FLUSH, 0, 77, 0},
		{2 /* SCSI */, 0, 512, 2},
		{14 /* secure erase */, 0, 16, 2},
		{0x80000000, 0, 512, 2},
		{UINT32_MAX, UINT64_MAX, 16, 2},
	};
	struct bed *b = *state;
	uint32_t used;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool in = rows[i].type == VIRTIO_BLK_T_IN;

		print_message("# type %u sector %llu len %u\n", rows[i].type,
			(unsigned long long)rows[i].sector, rows[i].len);
		assert_int_equal(request(b, rows[i].type, rows[i].sector, rows[i].len, &used),
			rows[i].status);
		assert_int_equal(
			used, in && rows[i].len ? (rows[i].status ? 0 : rows[i].len + 1) : 1);
		check_image(b);
	}
	assert_false(b->d->broken);
	assert_int_equal(sys.syncs, 2);
}

/* Data in the direction that the request does not have. */
static void wrong_way(void **state)
{
	struct bed *b = *state;
	struct vqd_seg in[3] = {{b->head, 16}, {b->data, 512}, {b->status, 1}};
	struct vqd_seg both[4] = {{b->head, 16}, {b->data, 512}, {b->data, 512}, {b->status, 1}};

	put_head(b, b->head, VIRTIO_BLK_T_IN, 0);
	assert_true(vqd_add(&b->q, in, 2, 1) >= 0);
	assert_true(vqd_add(&b->q, both, 2, 2) >= 0);
	b->d->ops->kick(b->d, 0);
	assert_int_equal(*(uint8_t *)vqd_ptr(&b->mem, b->status), 1);
	assert_true(vqd_get_used(&b->q, NULL) >= 0 && vqd_get_used(&b->q, NULL) >= 0);
	put_head(b, b->head, VIRTIO_BLK_T_OUT, 0);
	assert_true(vqd_add(&b->q, in, 1, 2) >= 0);
	assert_true(vqd_add(&b->q, both, 2, 2) >= 0);
	*(uint8_t *)vqd_ptr(&b->mem, b->status) = 9;
	b->d->ops->kick(b->d, 0);
	assert_int_equal(*(uint8_t *)vqd_ptr(&b->mem, b->status), 1);
	assert_true(vqd_get_used(&b->q, NULL) >= 0 && vqd_get_used(&b->q, NULL) >= 0);
	assert_false(b->d->broken);
	check_image(b);
}

static void host_errors(void **state)
{
	struct bed *b = *state;
	uint32_t used;

	sys.fail = ENOSPC;
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 1);
	sys.fail = EIO;
	assert_int_equal(request(b, VIRTIO_BLK_T_IN, 0, 512, &used), 1);
	assert_int_equal(used, 0);
	sys.fail = 0;
	assert_int_equal(request(b, VIRTIO_BLK_T_IN, 0, 512, NULL), 0);
	check_image(b);
	/* Somebody cuts the file: an error, not a guest that waits. */
	assert_int_equal(ftruncate(b->fd, 1024), 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_IN, 1, 512, NULL), 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_IN, 1, 1024, NULL), 1);
}

static void read_only(void **state)
{
	struct bed *b = *state;
	uint8_t wce = 0;

	assert_true(b->d->ops->features & F(VIRTIO_BLK_F_RO));
	assert_false(b->d->ops->features & (F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) |
						   F(VIRTIO_BLK_F_CONFIG_WCE)));
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 0, NULL), 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_IN, 3, 4096, NULL), 0);
	assert_memory_equal(vqd_ptr(&b->mem, b->data), b->image + 3 * 512, 4096);
	b->d->ops->config_write(b->d, 32, &wce, 1);
	assert_int_equal(sys.syncs + sys.ranges, 0);
	check_image(b);
}

/* ---- durability ---- */

static void set_cache(struct bed *b, uint8_t on)
{
	uint8_t now;

	b->d->ops->config_write(b->d, 32, &on, 1);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, on);
}

static void durability(void **state)
{
	struct bed *b = *state;
	uint8_t now, wide[64] = {0};

	memset(vqd_ptr(&b->mem, b->data), 0, 512);
	memset(b->image, 0, 512);
	/* write-back */
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 0);
	assert_int_equal(sys.syncs + sys.dsyncs, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(sys.syncs, 1);
	/* write-through: the first write answers for those before it, too */
	set_cache(b, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 0);
	assert_int_equal(sys.syncs, 2);
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 0);
	assert_int_equal(sys.syncs, 2);
	assert_int_equal(sys.dsyncs, 1);
	set_cache(b, 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 0);
	assert_int_equal(sys.syncs + sys.dsyncs, 3);
	/* A wide write covers the byte; one beside it does not. */
	b->d->ops->config_write(b->d, 0, wide, 32);
	b->d->ops->config_write(b->d, 33, wide, 31);
	b->d->ops->config_write(b->d, SIZE_MAX - 1, wide, 8);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, 1);
	b->d->ops->config_write(b->d, 20, wide, 13);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, 0);
	/* A queue that stops keeps the choice, a reset forgets it. */
	vdev_stop_queue(b->d, 0);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, 0);
	start(b, RW, 256);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, 1);
	/* A driver that does not flush gets write-through. */
	start(b, RW & ~F(VIRTIO_BLK_F_FLUSH), 256);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, 0);
	start(b, 0, 256);
	memset(vqd_ptr(&b->mem, b->data), 0, 512);
	sys.dsyncs = 0;
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_OUT, 0, 512, NULL), 0);
	assert_true(sys.dsyncs >= 1);
	/* Without the feature the byte cannot be written. */
	b->d->ops->config_write(b->d, 32, "\1", 1);
	b->d->ops->config_read(b->d, 32, &now, 1);
	assert_int_equal(now, 0);
	check_image(b);
}

/* The kernel reports lost pages once; the guest hears of them at every flush. */
static void lost_writes(void **state)
{
	struct bed *b = *state;

	sys.fail_sync = EIO;
	assert_int_equal(request(b, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), 1);
	sys.fail_sync = 0;
	assert_int_equal(request(b, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_IN, 0, 512, NULL), 0);
}

/* ---- discard and write zeroes ---- */

static void put_range(struct bed *b, unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes s = {sector, n, flags};

	memcpy((uint8_t *)vqd_ptr(&b->mem, b->data) + 16 * i, &s, sizeof(s));
}

static bool is_hole(struct bed *b, off_t at)
{
	return lseek(b->fd, at, SEEK_HOLE) == at;
}

static void discard(void **state)
{
	struct bed *b = *state;

	put_range(b, 0, 8, 16, 0);
	put_range(b, 1, 200, 0, 0);
	put_range(b, 2, SECTORS - 8, 8, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_DISCARD, 0, 48, NULL), 0);
	memset(b->image + 8 * 512, 0, 16 * 512);
	memset(b->image + DISK - 4096, 0, 4096);
	check_image(b);
	assert_true(is_hole(b, 4096) && is_hole(b, DISK - 4096));
	assert_false(is_hole(b, 0));
	sys.fail_range = EOPNOTSUPP;
	assert_int_equal(request(b, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), 2);
	sys.fail_range = EIO;
	assert_int_equal(request(b, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), 1);
	sys.fail_range = 0;
	start(b, RW & ~F(VIRTIO_BLK_F_DISCARD), 256);
	put_range(b, 0, 0, 8, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), 2);
	check_image(b);
}

static void write_zeroes(void **state)
{
	struct bed *b = *state;

	put_range(b, 0, 8, 16, 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), 0);
	memset(b->image + 8 * 512, 0, 16 * 512);
	check_image(b);
	assert_true(is_hole(b, 4096));
	/* Without leave to unmap, sectors stay allocated; odd ends, on a file system without
	 * ZERO_RANGE, and with one that cannot do anything. */
	put_range(b, 0, 33, 190, 0);
	put_range(b, 1, 255, 1, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, NULL), 0);
	memset(b->image + 33 * 512, 0, 190 * 512);
	memset(b->image + 255 * 512, 0, 512);
	check_image(b);
	assert_false(is_hole(b, 40 * 512));
	sys.fail_range = EOPNOTSUPP;
	put_range(b, 0, 0, 3, 1);
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), 0);
	memset(b->image, 0, 3 * 512);
	check_image(b);
	sys.fail_range = EIO;
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), 1);
	sys.fail_range = 0;
	/* Zeros are data: write-through makes them stable. */
	sys.syncs = 0;
	set_cache(b, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), 0);
	assert_int_equal(sys.syncs, 1);
	start(b, RW & ~F(VIRTIO_BLK_F_WRITE_ZEROES), 256);
	assert_int_equal(request(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), 2);
}

static void bad_ranges(void **state)
{
	static const struct {
		uint32_t type, len;
		uint64_t sector;
		uint32_t n, flags;
		int status;
	} rows[] = {
		{VIRTIO_BLK_T_DISCARD, 0, 0, 0, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 15, 0, 8, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 17, 0, 8, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 16 * 17, 0, 8, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 1 << 20, 0, 8, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 16, 0, 8, 1, 2},
		{VIRTIO_BLK_T_DISCARD, 16, 0, 8, 0x80000000, 2},
		{VIRTIO_BLK_T_DISCARD, 16, SECTORS, 1, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 16, UINT64_MAX, 1, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 16, 1ull << 55, 1, 0, 1},
		{VIRTIO_BLK_T_DISCARD, 16, 0, UINT32_MAX, 0, 1},
		{VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, 8, 2, 2},
		{VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, 8, 3, 2},
		{VIRTIO_BLK_T_WRITE_ZEROES, 16, SECTORS - 1, 2, 1, 1},
		{VIRTIO_BLK_T_WRITE_ZEROES, 16, UINT64_MAX - 1, 2, 1, 1},
		{VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, 0, 0, 1},
	};
	struct bed *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		print_message("# row %zu\n", i);
		put_range(b, 0, rows[i].sector, rows[i].n, rows[i].flags);
		assert_int_equal(request(b, rows[i].type, 0, rows[i].len, NULL), rows[i].status);
	}
	/* One bad range among good ones: none is touched. */
	for (unsigned i = 0; i < 16; i++)
		put_range(b, i, i * 8, 8, 0);
	put_range(b, 15, SECTORS, 8, 0);
	assert_int_equal(request(b, VIRTIO_BLK_T_DISCARD, 0, 256, NULL), 1);
	assert_int_equal(sys.ranges, 0);
	check_image(b);
	assert_false(b->d->broken);
}

/* ---- a broken driver ---- */

static void broken_driver(void **state)
{
	struct bed *b = *state;

	static const struct {
		const char *what;
		unsigned n_out, n_in;
		uint32_t len;
	} rows[] = {
		{"no status", 2, 0, 16},
		{"no header", 0, 2, 16},
		{"short header", 1, 1, 15},
		{"header of dust", 15, 1, 1},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vqd_seg segs[20];

		print_message("# %s\n", rows[i].what);
		for (unsigned j = 0; j < rows[i].n_out + rows[i].n_in; j++)
			segs[j] = (struct vqd_seg){b->data + 100 * j, rows[i].len};
		assert_true(vqd_add(&b->q, segs, rows[i].n_out, rows[i].n_in) >= 0);
		b->d->ops->kick(b->d, 0);
		assert_true(b->d->broken);
		assert_int_equal(b->d->breaks, i + 1);
		assert_int_equal(b->resets_needed, i + 1);
		assert_int_equal(vqd_get_used(&b->q, NULL), -1);
		/* Deaf until it is reset. */
		assert_int_equal(request(b, VIRTIO_BLK_T_IN, 0, 512, NULL), -1);
		start(b, RW, 256);
		assert_int_equal(request(b, VIRTIO_BLK_T_IN, 0, 512, NULL), 0);
	}
	{
		struct vqd_seg bad[2] = {{0x1000, 16}, {b->status, 1}};

		assert_true(vqd_add(&b->q, bad, 1, 1) >= 0);
		b->d->ops->kick(b->d, 0);
		assert_true(b->d->broken);
	}
	check_image(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(config_space), cmocka_unit_test(refused_disks),
		T(pieces_of_any_size), T(get_id), T(bounds), T(wrong_way), T(host_errors),
		cmocka_unit_test_setup_teardown(read_only, setup_ro, teardown), T(durability),
		T(lost_writes), T(discard), T(write_zeroes), T(bad_ranges), T(broken_driver)};

	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}

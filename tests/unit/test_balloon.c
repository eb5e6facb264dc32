/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: pages really go back, only whole ones of guest memory, whatever the guest names.
 */
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev_bed.h"

#include "dev/balloon.h"

enum { INFLATE, DEFLATE, STATS, HINT, REPORT };

#define F(b) (1ull << (b))
#define ALL                                                                                        \
	(F(VIRTIO_BALLOON_F_STATS_VQ) | F(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |                       \
		F(VIRTIO_BALLOON_F_REPORTING))
#define PAGES 64u /* for the balloon; the bed's rings and buffers are below them */
#define AREA  (1ull << 20)

static struct bed bed;
static struct balloon *balloon;

static uint8_t *area(struct bed *b, unsigned page)
{
	return b->mem.host + AREA + 4096ull * page;
}

static uint32_t pfn(unsigned page)
{
	return (uint32_t)((VQD_GPA + AREA) / 4096 + page);
}

static void fill(struct bed *b)
{
	memset(area(b, 0), 0x5a, 4096 * PAGES);
}

/* Which pages of the area are empty, as a bit mask. */
static uint64_t empty(struct bed *b)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		const uint8_t *p = area(b, i);
		bool zero = true, full = true;

		for (unsigned j = 0; j < 4096; j++) {
			zero &= p[j] == 0;
			full &= p[j] == 0x5a;
		}
		assert_true(zero || full); /* never a part of a page */
		mask |= (uint64_t)zero << i;
	}
	return mask;
}

static int setup(void **state)
{
	bed = (struct bed){.loop = loop_new(NULL)};
	balloon = balloon_new(bed.loop);
	bed_init(&bed, balloon_vdev(balloon));
	bed_start(&bed, ALL, true);
	fill(&bed);
	*state = &bed;
	return 0;
}

static int teardown(void **state)
{
	vdev_reset(bed.d);
	balloon_free(balloon);
	bed_done(&bed);
	return 0;
}

/* Send @n page numbers in pieces of @cut bytes. Whether the device took them. */
static bool send(struct bed *b, unsigned q, const uint32_t *pfns, unsigned n, unsigned cut)
{
	uint64_t gpa = vqd_alloc(&b->mem, 4 * n, 1);
	struct vqd_seg segs[128];
	unsigned k = 0;
	uint32_t used = 1;

	memcpy(vqd_ptr(&b->mem, gpa), pfns, 4 * n);
	for (unsigned off = 0; off < 4 * n; off += cut)
		segs[k++] = (struct vqd_seg){gpa + off, MIN(cut, 4 * n - off)};
	assert_true(vqd_add(&b->q[q], segs, k, 0) >= 0);
	bed_kick(b, q);
	return vqd_get_used(&b->q[q], &used) >= 0 && used == 0;
}

static void inflate(void **state)
{
	static const struct {
		const char *what;
		unsigned n, cut;
		int pages[6]; /* in the area */
		uint64_t gone;
	} rows[] = {
		{"one", 1, 4, {3}, 1 << 3},
		{"a run", 3, 12, {4, 5, 6}, 7 << 4},
		{"downwards, in dust", 3, 1, {6, 5, 4}, 7 << 4},
		{"both ways", 4, 7, {10, 11, 9, 12}, 15 << 9},
		{"scattered", 4, 16, {1, 3, 5, 7}, 0xaa},
		{"twice", 4, 16, {1, 1, 2, 1}, 6},
	};
	struct bed *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t before = balloon_returned(balloon);
		uint32_t pfns[6];

		print_message("# %s\n", rows[i].what);
		fill(b);
		for (unsigned j = 0; j < rows[i].n; j++)
			pfns[j] = pfn((unsigned)rows[i].pages[j]);
		assert_true(send(b, INFLATE, pfns, rows[i].n, rows[i].cut));
		assert_true(empty(b) == rows[i].gone);
		assert_true(balloon_returned(balloon) > before);
		/* Taking them back changes nothing. */
		assert_true(send(b, DEFLATE, pfns, rows[i].n, rows[i].cut));
		assert_true(empty(b) == rows[i].gone);
	}
	assert_true(b->interrupts[INFLATE] > 0 && b->interrupts[DEFLATE] > 0);
}

/* Pages that are not the guest's, alone and at the ends of a run that is. */
static void strange_pages(void **state)
{
	struct bed *b = *state;
	uint32_t last = (uint32_t)((VQD_GPA + b->mem.len) / 4096) - 1;
	uint32_t pfns[] = {0, UINT32_MAX, 1, last + 1, last, last + 2, pfn(2)};

	memset(b->mem.host + b->mem.len - 8192, 0x77, 8192);
	assert_true(send(b, INFLATE, pfns, ARRAY_SIZE(pfns), 28));
	assert_true(empty(b) == 4);
	assert_int_equal(b->mem.host[b->mem.len - 4097], 0x77);
	assert_int_equal(b->mem.host[b->mem.len - 4096], 0);
	assert_int_equal(balloon_returned(balloon), 8192);
	assert_false(b->d->broken);
}

static void add_report(struct bed *b, unsigned q, uint64_t off, uint32_t len)
{
	bed_add(b, q, VQD_GPA + AREA + off, len, true);
	bed_kick(b, q);
	assert_true(vqd_get_used(&b->q[q], NULL) >= 0);
}

static void report(void **state)
{
	struct bed *b = *state;
	struct vqd_seg segs[3] = {{VQD_GPA + AREA, 4096}, {VQD_GPA + AREA + 8192, 8192},
		{VQD_GPA + AREA + 32768, 4096}};

	assert_true(vqd_add(&b->q[REPORT], segs, 0, 3) >= 0);
	bed_kick(b, REPORT);
	assert_true(vqd_get_used(&b->q[REPORT], NULL) >= 0);
	assert_true(empty(b) == 0x10d);
	/* Anything but whole pages is kept. */
	fill(b);
	add_report(b, REPORT, 1, 8191);
	add_report(b, REPORT, 0, 4095);
	add_report(b, REPORT, 100, 8192);
	assert_true(empty(b) == 0);
	/* Larger than what other devices take in one chain. */
	add_report(b, REPORT, 0, 8 << 20);
	assert_true(empty(b) == UINT64_MAX);
	assert_false(b->d->broken);
	/* A running device keeps that when its memory moves. */
	b->d->ops->reset(b->d);
	bed_kick(b, REPORT);
	add_report(b, REPORT, 0, 8 << 20);
}

/* Linux moves queues up when features are missing. */
static void queue_numbers(void **state)
{
	struct bed *b = *state;

	add_report(b, HINT, 0, 4096);
	assert_true(empty(b) == 1);
	bed_start(b, F(VIRTIO_BALLOON_F_REPORTING), true);
	fill(b);
	add_report(b, STATS, 0, 8192);
	assert_true(empty(b) == 3);
	/* Reports without the feature are not looked at. */
	bed_start(b, 0, true);
	fill(b);
	bed_add(b, REPORT, VQD_GPA + AREA, 4096, true);
	bed_kick(b, REPORT);
	assert_int_equal(vqd_get_used(&b->q[REPORT], NULL), -1);
	assert_true(empty(b) == 0);
}

static void config_space(void **state)
{
	struct bed *b = *state;
	uint8_t got[20], want[20] = {0, 1, 0, 0, 0x44, 0x33, 0x22, 0x11};
	uint32_t actual = 0x11223344;

	assert_int_equal(b->d->ops->id, 5);
	assert_true(b->d->ops->features == ALL);
	balloon_set_target(balloon, (256 << 12) + 77);
	assert_int_equal(b->config_changes, 1);
	b->d->ops->config_write(b->d, 4, &actual, 4);
	assert_true(balloon_actual(balloon) == 0x11223344ull << 12);
	for (size_t off = 0; off < 20; off++) {
		b->d->ops->config_read(b->d, off, got, sizeof(got));
		for (size_t i = 0; i < 20; i++)
			assert_int_equal(got[i], off + i < 20 ? want[off + i] : 0);
	}
	/* In bytes; and what is not the driver's stays. */
	b->d->ops->config_write(b->d, 7, "\x99", 1);
	b->d->ops->config_write(b->d, 0, "\1\2\3\4\5", 5);
	b->d->ops->config_write(b->d, 8, "\1\2\3\4\5\6\7\10", 8);
	b->d->ops->config_write(b->d, SIZE_MAX - 3, "\1\2\3\4\5\6\7\10", 8);
	want[4] = 5;
	want[7] = 0x99;
	b->d->ops->config_read(b->d, 0, got, sizeof(got));
	assert_memory_equal(got, want, 20);
	balloon_set_target(balloon, UINT64_MAX);
	b->d->ops->config_read(b->d, 0, got, 4);
	assert_memory_equal(got, "\xff\xff\xff\xff", 4);
	vdev_reset(b->d);
	assert_int_equal(balloon_actual(balloon), 0);
}

static void put_stats(struct bed *b, uint64_t gpa, uint64_t free_bytes)
{
	struct virtio_balloon_stat s[3] = {{VIRTIO_BALLOON_S_MEMFREE, free_bytes}, {999, 1},
		{VIRTIO_BALLOON_S_MEMTOT, 1ull << 40}};

	memcpy(vqd_ptr(&b->mem, gpa), s, sizeof(s));
	bed_add(b, STATS, gpa, sizeof(s) + 3, false); /* and an incomplete one */
}

static void statistics(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 4096, 1);

	balloon_poll_stats(balloon); /* the driver is not there yet */
	assert_true(balloon_stat(balloon, VIRTIO_BALLOON_S_MEMFREE) == UINT64_MAX);
	for (unsigned i = 1; i < 5; i++) {
		put_stats(b, gpa, i * 1000);
		assert_true(bed_kick_wanted(b, STATS, true));
		bed_kick(b, STATS);
		/* The device keeps the buffer until it wants the next. */
		assert_int_equal(vqd_get_used(&b->q[STATS], NULL), -1);
		assert_int_equal(balloon_stat(balloon, VIRTIO_BALLOON_S_MEMFREE), i * 1000);
		assert_true(balloon_stat(balloon, VIRTIO_BALLOON_S_MEMTOT) == 1ull << 40);
		assert_true(balloon_stat(balloon, VIRTIO_BALLOON_S_CACHES) == UINT64_MAX);
		assert_true(balloon_stat(balloon, 999) == UINT64_MAX);
		bed_kick(b, STATS);
		vqd_set_used_event(&b->q[STATS], (uint16_t)(i - 1));
		balloon_poll_stats(balloon);
		balloon_poll_stats(balloon);
		assert_true(vqd_get_used(&b->q[STATS], NULL) >= 0);
		assert_int_equal(b->interrupts[STATS], i);
	}
	put_stats(b, gpa, 7);
	bed_kick(b, STATS);
	b->d->ops->reset(b->d); /* running: it is offered again */
	bed_kick(b, STATS);
	balloon_poll_stats(balloon);
	assert_true(vqd_get_used(&b->q[STATS], NULL) >= 0);
	vdev_reset(b->d);
	balloon_poll_stats(balloon);
}

/* Much work comes in turns. */
static void in_turns(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 16384, 4);
	unsigned answered = 0;

	for (unsigned i = 0; i < 4096; i++)
		((uint32_t *)vqd_ptr(&b->mem, gpa))[i] = pfn(i % 2 * 7);
	for (unsigned i = 0; i < 20; i++)
		bed_add(b, INFLATE, gpa, 16384, false);
	bed_kick(b, INFLATE);
	while (vqd_get_used(&b->q[INFLATE], NULL) >= 0)
		answered++;
	assert_true(answered > 0 && answered < 20);
	for (unsigned i = 0; i < 40; i++)
		loop_once(b->loop, 1, NULL);
	while (vqd_get_used(&b->q[INFLATE], NULL) >= 0)
		answered++;
	assert_int_equal(answered, 20);
	bed_add(b, INFLATE, gpa, 4, false);
	assert_true(bed_kick_wanted(b, INFLATE, true));
}

static void broken_driver(void **state)
{
	static const struct {
		const char *what;
		unsigned q, n_out, n_in;
		uint32_t len;
	} rows[] = {
		{"odd length", INFLATE, 1, 0, 7},
		{"writable pages", INFLATE, 0, 1, 8},
		{"both", INFLATE, 1, 1, 8},
		{"endless list", INFLATE, 1, 0, 16388},
		{"odd length", DEFLATE, 1, 0, 3},
		{"writable pages", DEFLATE, 0, 1, 8},
		{"readable report", REPORT, 1, 0, 4096},
		{"half a report", HINT, 1, 1, 4096},
		{"writable statistics", STATS, 0, 1, 10},
		{"endless statistics", STATS, 1, 0, 4097},
	};
	struct bed *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vqd_seg s[2] = {
			{VQD_GPA + AREA, rows[i].len}, {VQD_GPA + AREA + 32768, rows[i].len}};

		print_message("# %s\n", rows[i].what);
		assert_true(vqd_add(&b->q[rows[i].q], s, rows[i].n_out, rows[i].n_in) >= 0);
		bed_kick(b, rows[i].q);
		assert_true(b->d->broken);
		assert_int_equal(b->resets_needed, i + 1);
		assert_int_equal(vqd_get_used(&b->q[rows[i].q], NULL), -1);
		assert_true(empty(b) == 0);
		balloon_poll_stats(balloon);
		loop_once(b->loop, 0, NULL);
		bed_start(b, ALL, true);
		assert_true(send(b, INFLATE, (uint32_t[]){pfn(9)}, 1, 4));
		fill(b);
	}
}

/* What is given back leaves the process, and the file, too. */
static void memory_kinds(void **state)
{
	const uint64_t len = 64 * 4096;
	int fd = memfd_create("guest", MFD_CLOEXEC);
	unsigned char in_core[64];
	struct gmem m = {0};
	struct stat st;
	uint8_t *anon = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		*copy;

	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	assert_int_equal(gmem_add_host(&m, 0x100000, len, anon, NULL), 0);
	assert_int_equal(gmem_add_fd(&m, 0x100000 + len, len, 0, fd, 0, NULL), 0);
	memset(anon, 1, len);
	memset(gmem_ptr(&m, 0x100000 + len, len), 1, len);
	assert_true(gmem_discard(&m, 0x100000 + 4096, 8 * 4096));
	assert_int_equal(mincore(anon, len, in_core), 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(in_core[i] & 1, i < 1 || i > 8);
	assert_true(gmem_discard(&m, 0x100000 + len, 16 * 4096));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 48 * 8);
	/* Neighbours in guest memory, not in ours. */
	assert_false(gmem_discard(&m, 0x100000 + len - 4096, 8192));
	assert_false(gmem_discard(&m, 0x100000 - 4096, 8192));
	assert_false(gmem_discard(&m, 0x100000 + 2 * len, 4096));
	assert_false(gmem_discard(&m, 0x100000, 0));
	assert_false(gmem_discard(&m, 0x100000, UINT64_MAX));
	assert_false(gmem_discard(&m, 0x100800, 4096));
	assert_false(gmem_discard(&m, 0x100000, 2048));
	assert_false(gmem_discard_ptr(&m, anon - 4096, 8192));
	assert_false(gmem_discard_ptr(&m, NULL, 4096));
	assert_false(gmem_discard_ptr(&m, anon, SIZE_MAX - 4095));
	gmem_clear(&m);
	/* A private copy of a file, as a snapshot has: the file keeps its pages. */
	copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	memset(copy, 2, len);
	assert_int_equal(gmem_add_host(&m, 0, len, copy, NULL), 0);
	assert_true(gmem_discard(&m, 0, len));
	assert_int_equal(copy[20 * 4096], 1);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 64 * 8 /* the copy has filled the hole */);
	munmap(copy, len);
	munmap(anon, len);
	close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(inflate), T(strange_pages), T(report),
		T(queue_numbers), T(config_space), T(statistics), T(in_turns), T(broken_driver),
		cmocka_unit_test(memory_kinds)};

	return cmocka_run_group_tests_name("balloon", tests, NULL, NULL);
}

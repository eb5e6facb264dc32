/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console: output to a reader that is slow, gone or never there; input that comes in drops.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev_bed.h"

#include "dev/console.h"

enum { RX, TX };

static struct bed bed;
static struct console *console;
static int out[2], in[2]; /* [0] reads */

static void make(int out_fd, int in_fd)
{
	bed = (struct bed){.loop = loop_new(NULL)};
	console = console_new(bed.loop, out_fd, in_fd, NULL);
	assert_non_null(console);
	bed_init(&bed, console_vdev(console));
	bed_start(&bed, 0, true);
}

static int setup(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	make(out[1], in[0]);
	/* The device has copies. */
	close(out[1]);
	close(in[0]);
	*state = &bed;
	return 0;
}

static void unmake(void)
{
	vdev_reset(bed.d);
	console_free(console);
	bed_done(&bed);
}

static int teardown(void **state)
{
	unmake();
	if (out[0] >= 0)
		close(out[0]);
	if (in[1] >= 0)
		close(in[1]);
	return 0;
}

/* Read all that is there. */
static size_t drain(uint8_t *to, size_t size)
{
	size_t n = 0;
	ssize_t r;

	while (n < size && (r = read(out[0], to + n, size - n)) > 0)
		n += (size_t)r;
	return n;
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 31 >> 2 ^ i);
}

static void output(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 100, 1);
	struct vqd_seg segs[] = {{gpa, 3}, {gpa + 3, 1}, {gpa + 4, 17}};
	uint8_t got[100], cfg[12];
	uint32_t used;

	assert_int_equal(b->d->ops->id, 3);
	assert_int_equal(b->d->ops->features, 0);
	b->d->ops->config_read(b->d, 0, cfg, sizeof(cfg));
	assert_memory_equal(cfg, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
	memcpy(vqd_ptr(&b->mem, gpa), "hello from the guest\n", 21);
	assert_true(vqd_add(&b->q[TX], segs, 3, 0) >= 0);
	bed_add(b, TX, gpa, 5, false);
	bed_kick(b, TX);
	assert_int_equal(drain(got, sizeof(got)), 26);
	assert_memory_equal(got, "hello from the guest\nhello", 26);
	assert_true(vqd_get_used(&b->q[TX], &used) >= 0);
	assert_int_equal(used, 0);
	assert_true(vqd_get_used(&b->q[TX], NULL) >= 0);
	assert_int_equal(b->interrupts[TX], 1);
}

/* The reader is slow: the queue waits, the loop does not, and no byte is lost or doubled. */
static void slow_reader(void **state)
{
	struct bed *b = *state;
	const size_t len = 50000, n = 60;
	uint64_t gpa = vqd_alloc(&b->mem, len * n, 1);
	uint8_t *got = malloc(len * n + 1);
	size_t have = 0, answered = 0;

	for (size_t i = 0; i < len * n; i++)
		b->mem.host[gpa - VQD_GPA + i] = pattern(i);
	for (unsigned i = 0; i < n; i++) {
		struct vqd_seg s[2] = {
			{gpa + i * len, 7001}, {gpa + i * len + 7001, (uint32_t)len - 7001}};

		assert_true(vqd_add(&b->q[TX], s, 2, 0) >= 0);
	}
	for (int i = 0; i < 5; i++)
		bed_kick(b, TX); /* nothing changes after the first */
	while (vqd_get_used(&b->q[TX], NULL) >= 0)
		answered++;
	assert_true(answered < 3); /* a pipe of 64 KiB is full */
	for (int i = 0; i < 20000 && have < n * len; i++) {
		have += drain(got + have, 9999);
		loop_once(b->loop, 0, NULL);
		while (vqd_get_used(&b->q[TX], NULL) >= 0)
			answered++;
	}
	assert_int_equal(have, n * len);
	assert_int_equal(answered, n);
	for (size_t i = 0; i < have; i++)
		if (got[i] != pattern(i))
			fail_msg("byte %zu", i);
	bed_add(b, TX, gpa, 1, false);
	assert_true(bed_kick_wanted(b, TX, true));
	free(got);
}

/* The reader goes away while it is waited for: what follows is dropped. */
static void reader_leaves(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 1 << 18, 1);

	bed_add(b, TX, gpa, 1 << 18, false);
	bed_kick(b, TX);
	assert_int_equal(vqd_get_used(&b->q[TX], NULL), -1);
	close(out[0]);
	out[0] = -1;
	loop_once(b->loop, 100, NULL);
	assert_true(vqd_get_used(&b->q[TX], NULL) >= 0);
	bed_add(b, TX, gpa, 100, false);
	bed_kick(b, TX);
	assert_true(vqd_get_used(&b->q[TX], NULL) >= 0);
	assert_false(b->d->broken);
}

/* A flood that costs nothing to take still comes in turns. */
static void flood(void **state)
{
	struct bed *b = *state;
	unsigned answered = 0;
	uint64_t gpa;

	unmake();
	make(-1, -1);
	gpa = vqd_alloc(&b->mem, 65536, 1);
	for (int i = 0; i < 100; i++)
		bed_add(b, TX, gpa, i & 1 ? 1 : 40000, false);
	bed_kick(b, TX);
	while (vqd_get_used(&b->q[TX], NULL) >= 0)
		answered++;
	assert_true(answered > 0 && answered < 10);
	bed_kick(b, TX); /* kicks get it no further */
	assert_int_equal(vqd_get_used(&b->q[TX], NULL), -1);
	for (int i = 0; i < 100; i++)
		loop_once(b->loop, 1, NULL);
	while (vqd_get_used(&b->q[TX], NULL) >= 0)
		answered++;
	assert_int_equal(answered, 100);
}

static void to_a_file(void **state)
{
	char path[] = "/tmp/test_console.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	uint64_t gpa;
	uint8_t got[10];

	unlink(path);
	unmake();
	make(fd, fd); /* one descriptor for both; a file gives no input */
	gpa = vqd_alloc(&bed.mem, 10, 1);
	memcpy(vqd_ptr(&bed.mem, gpa), "0123456789", 10);
	bed_add(&bed, TX, gpa, 10, false);
	bed_kick(&bed, TX);
	bed_add(&bed, RX, gpa, 10, true);
	bed_kick(&bed, RX);
	loop_once(bed.loop, 0, NULL);
	assert_int_equal(pread(fd, got, 10, 0), 10);
	assert_memory_equal(got, "0123456789", 10);
	assert_int_equal(vqd_get_used(&bed.q[RX], NULL), -1);
	close(fd);
}

static void input(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 4096, 1);
	struct vqd_seg segs[] = {{gpa, 2}, {gpa + 2, 3}};
	uint32_t used;

	/* It waits for a buffer … */
	assert_int_equal(write(in[1], "abcdefgh", 8), 8);
	loop_once(b->loop, 10, NULL);
	assert_true(vqd_add(&b->q[RX], segs, 0, 2) >= 0);
	assert_true(bed_kick_wanted(b, RX, true));
	bed_kick(b, RX);
	loop_once(b->loop, 100, NULL);
	assert_true(vqd_get_used(&b->q[RX], &used) >= 0);
	assert_int_equal(used, 5);
	assert_memory_equal(vqd_ptr(&b->mem, gpa), "abcde", 5);
	/* … the rest, too; and then buffers wait for input. */
	bed_add(b, RX, gpa, 100, true);
	bed_add(b, RX, gpa, 100, true);
	bed_kick(b, RX);
	loop_once(b->loop, 100, NULL);
	assert_true(vqd_get_used(&b->q[RX], &used) >= 0);
	assert_int_equal(used, 3);
	assert_int_equal(vqd_get_used(&b->q[RX], NULL), -1);
	assert_int_equal(write(in[1], "xyz", 3), 3);
	loop_once(b->loop, 100, NULL);
	assert_true(vqd_get_used(&b->q[RX], &used) >= 0);
	assert_int_equal(used, 3);
	assert_memory_equal(vqd_ptr(&b->mem, gpa), "xyz", 3);
	assert_true(b->interrupts[RX] > 0);
	/* End of input: the loop is not woken for it for ever. */
	bed_add(b, RX, gpa, 100, true);
	bed_kick(b, RX);
	close(in[1]);
	in[1] = -1;
	loop_once(b->loop, 100, NULL);
	bed_kick(b, RX);
	{
		uint64_t before = now_ms();

		loop_once(b->loop, 50, NULL);
		assert_true(now_ms() - before >= 45);
	}
	assert_int_equal(vqd_get_used(&b->q[RX], NULL), -1);
	assert_false(b->d->broken);
}

static void one_socket_for_both(void **state)
{
	int sv[2];
	uint64_t gpa;
	uint8_t got[8];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	unmake();
	make(sv[0], sv[0]);
	gpa = vqd_alloc(&bed.mem, 1 << 20, 1);
	bed_add(&bed, RX, gpa, 100, true);
	bed_kick(&bed, RX);
	bed_add(&bed, TX, gpa, 1 << 20,
		false); /* more than it holds: both directions are watched */
	bed_kick(&bed, TX);
	assert_int_equal(write(sv[1], "in", 2), 2);
	loop_once(bed.loop, 100, NULL);
	assert_true(vqd_get_used(&bed.q[RX], NULL) >= 0);
	assert_true(read(sv[1], got, sizeof(got)) > 0);
	close(sv[0]);
	close(sv[1]);
}

static void reset_while_full(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 1 << 20, 1);
	uint8_t *got = malloc(1 << 20);
	size_t n;

	bed_add(b, TX, gpa, 1 << 20, false);
	bed_kick(b, TX);
	/* The memory behind a running queue moves: the chain is taken again, from its beginning. */
	b->d->ops->reset(b->d);
	assert_int_equal(b->d->vq[TX].last_avail, 0);
	bed_kick(b, TX);
	assert_int_equal(b->d->vq[TX].last_avail, 1);
	/* And a reset forgets it. */
	bed_add(b, RX, gpa, 100, true);
	bed_kick(b, RX);
	vdev_reset(b->d);
	n = drain(got, 1 << 20);
	assert_true(n > 0 && n <= 1 << 16);
	assert_int_equal(write(in[1], "x", 1), 1);
	loop_once(b->loop, 10, NULL);
	loop_once(b->loop, 10, NULL);
	assert_int_equal(drain(got, 1 << 20), 0);
	bed_start(b, 0, false);
	bed_add(b, RX, gpa, 100, true);
	bed_kick(b, RX);
	loop_once(b->loop, 100, NULL);
	assert_true(vqd_get_used(&b->q[RX], NULL) >= 0);
	free(got);
}

static void broken_driver(void **state)
{
	static const struct {
		unsigned q, n_out, n_in;
	} rows[] = {{TX, 0, 1}, {TX, 1, 1}, {RX, 1, 0}, {RX, 1, 1}};
	struct bed *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(rows) + 2; i++) {
		unsigned bad = i >= ARRAY_SIZE(rows), q = bad ? i - 4 : rows[i].q;
		struct vqd_seg s[2] = {{bad ? 8 : VQD_GPA + 100000, 10}, {VQD_GPA + 100100, 10}};

		assert_int_equal(write(in[1], "x", 1), 1);
		assert_true(vqd_add(&b->q[q], s, bad ? q == TX : rows[i].n_out,
				    bad ? q == RX : rows[i].n_in) >= 0);
		bed_kick(b, q);
		loop_once(b->loop, 10, NULL);
		assert_true(b->d->broken);
		assert_int_equal(b->d->breaks, i + 1);
		assert_int_equal(vqd_get_used(&b->q[q], NULL), -1);
		loop_once(b->loop, 0, NULL);
		bed_start(b, 0, true);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(output), T(slow_reader), T(reader_leaves), T(flood),
		T(to_a_file), T(input), T(one_socket_for_both), T(reset_while_full),
		T(broken_driver)};

	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}

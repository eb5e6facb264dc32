/* SPDX-License-Identifier: Apache-2.0 */
/* Files into memory, by threads: every byte in its place, whatever the pieces are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/place.h"

#define MIB (1u << 20)
#define RAM (32u * MIB)

/* A byte of the file at @off: no two pages are alike, and none is zero. */
static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off * 7 + off / 4096 * 13) | 1;
}

static int file_of(size_t len)
{
	uint8_t *data = xcalloc(1, len);
	int fd = memfd_create("file", MFD_CLOEXEC);

	for (size_t i = 0; i < len; i++)
		data[i] = byte_at(i);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
	free(data);
	return fd;
}

/* As guest memory: begins with a large page. */
static uint8_t *ram_new(void **ret_base)
{
	uint8_t *p = mmap(NULL, RAM + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	*ret_base = p;
	return p + (2 * MIB - (uintptr_t)p % (2 * MIB)) % (2 * MIB);
}

static void in_its_place(const uint8_t *to, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (to[i] != byte_at(off + i))
			fail_msg("byte %zu is 0x%02x", i, to[i]);
}

/* Parts that share a large page, cross some, begin and end anywhere. */
static void every_byte(void **state)
{
	static const struct {
		uint64_t at, off, len;
	} t[] = {
		{0, 5, 1},
		{1, 4096, 4095},
		{2 * MIB - 3, 100, 7},                 /* across a border */
		{4 * MIB, 0, 2 * MIB},                 /* one page */
		{6 * MIB + 4096, 12345, 9 * MIB + 17}, /* six */
		{15 * MIB + 8192, 1, 4096},            /* in the page where that ended */
		{18 * MIB, 2 * MIB, 10 * MIB},
	};
	struct place_part parts[ARRAY_SIZE(t)];
	int fd = file_of(12 * MIB);
	uint64_t sum = 0, bytes = 0;
	void *base;
	uint8_t *ram = ram_new(&base);
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		parts[i] = (struct place_part){
			.fd = fd, .off = t[i].off, .len = t[i].len, .to = ram + t[i].at};
		bytes += t[i].len;
	}
	assert_int_equal(place_finish(place_begin(parts, ARRAY_SIZE(t)), &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		in_its_place(ram + t[i].at, t[i].off, t[i].len);
	/* And nothing anywhere else. */
	for (size_t i = 0; i < RAM; i++)
		sum += ram[i] != 0;
	assert_int_equal(sum, bytes);
	munmap(base, RAM + 2 * MIB);
	close(fd);
}

/* What is no data takes no memory. */
static void holes(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	unsigned char resident[8 * MIB / 4096];
	unsigned n = 0;
	void *base;
	uint8_t *ram = ram_new(&base);
	struct place_part part = {.fd = fd, .len = 8 * MIB, .to = ram};
	struct err err;

	assert_int_equal(ftruncate(fd, 8 * MIB), 0);
	assert_int_equal(pwrite(fd, "middle", 6, 3 * MIB), 6);
	assert_int_equal(madvise(ram, RAM, MADV_NOHUGEPAGE), 0);
	assert_int_equal(place_finish(place_begin(&part, 1), &err), 0);
	assert_memory_equal(ram + 3 * MIB, "middle", 7);
	assert_int_equal(mincore(ram, 8 * MIB, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		n += resident[i] & 1;
	assert_int_equal(n, 1);
	munmap(base, RAM + 2 * MIB);
	close(fd);
}

/* A file that is shorter than it was; no descriptor; nothing to do. */
static void failures(void **state)
{
	int fd = file_of(5 * MIB);
	void *base;
	uint8_t *ram = ram_new(&base);
	struct place_part part[] = {{.fd = fd, .len = 5 * MIB, .to = ram},
		{.fd = -1, .len = 4096, .to = ram + 8 * MIB}};
	struct err err;

	part[0].len++;
	assert_int_equal(place_finish(place_begin(part, 1), NULL), 0); /* zero, as beyond a file's end */
	assert_int_equal(ram[5 * MIB], 0);
	assert_int_equal(place_finish(place_begin(part, 2), &err), -1);
	assert_non_null(strstr(err.msg, "read kernel"));
	assert_int_equal(place_finish(place_begin(NULL, 0), &err), 0);
	assert_int_equal(place_finish(NULL, &err), 0);
	munmap(base, RAM + 2 * MIB);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte),
		cmocka_unit_test(holes),
		cmocka_unit_test(failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

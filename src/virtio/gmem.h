/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: the only place that turns a guest address into a pointer.
 *
 * Guest physical addresses come from hostile descriptors. Every access names its length and must lie
 * inside one region; nothing outside gmem.c casts an address. The bytes behind a pointer may change
 * at any moment (the guest runs on): copy what is to be checked, then check the copy. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define GMEM_REGIONS_MAX 8

struct gmem_region {
	uint64_t gpa, len;
	uint64_t uva;	  /* address in the front end's process; vhost-user rings are given in it */
	uint8_t *host;	  /* our mapping of gpa */
	void *map;	  /* what to munmap; NULL: not ours */
	size_t map_len;
	uint64_t offset;  /* of gpa in the file; with dev and ino the identity of a mapping */
	dev_t dev;
	ino_t ino;
};

struct gmem {
	struct gmem_region regions[GMEM_REGIONS_MAX];
	unsigned n;
};

/* Map @len bytes at @offset of @fd (borrowed) as guest memory at @gpa. */
int gmem_add_fd(struct gmem *m, uint64_t gpa, uint64_t len, uint64_t uva, int fd, uint64_t offset,
	struct err *err);
/* Move the mapping of exactly this region from @from to @m, so that pointers into it stay valid when
 * a new memory table repeats an old region. False: @from has no such mapping. */
bool gmem_adopt(struct gmem *m, struct gmem *from, uint64_t gpa, uint64_t len, uint64_t uva, int fd,
	uint64_t offset);
/* Use memory that the caller owns (KVM engine, tests). */
int gmem_add_host(struct gmem *m, uint64_t gpa, uint64_t len, void *host, struct err *err);
/* Unmap everything; afterwards no address resolves. */
void gmem_clear(struct gmem *m);

/* @len bytes at @gpa, or NULL when they are not wholly inside one region (len 0 is NULL too). */
void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len);
/* The same for a front-end virtual address (vhost-user SET_VRING_ADDR). */
void *gmem_ptr_uva(const struct gmem *m, uint64_t uva, uint64_t len);

/* Give the host these pages back; the guest finds zeros there. The range must
 * lie inside one region and be aligned to host pages, else nothing happens and it is false. */
bool gmem_discard(const struct gmem *m, uint64_t gpa, uint64_t len);
/* The same for a pointer that gmem_ptr returned. */
bool gmem_discard_ptr(const struct gmem *m, void *p, size_t len);

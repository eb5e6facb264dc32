/* SPDX-License-Identifier: Apache-2.0 */
/* The last step before hostile bytes: each thread of hutch-vmm calls its own of these first thing, and
 * the main thread when it has made all others. What a thread may still do is listed in seal.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* A directory that the file server serves. */
struct seal_export {
	int fd; /* borrowed */
	bool read_only;
};

/* Layers that the host lacks are added to *missing; they are the same for every thread. */
int seal_main(unsigned *missing, struct err *err);
/* These end the process when they fail. */
void seal_files(const struct seal_export *exports, size_t n);
void seal_closer(void);
void seal_vcpu(void);
void seal_disk(void);

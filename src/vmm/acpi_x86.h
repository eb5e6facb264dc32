/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables (ACPI 6.4) of a hardware-reduced machine: what a stock kernel needs to find its CPUs, its
 * devices and the power switch. Pure: description in, bytes out. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define ACPI_MMIO_MAX 16u

struct acpi_mmio {
	uint64_t base; /* below 4 GiB */
	uint32_t len;
	unsigned irq;
};

struct acpi_config {
	unsigned cpus;
	struct acpi_mmio mmio[ACPI_MMIO_MAX]; /* virtio-mmio devices */
	unsigned n_mmio;
	bool pci; /* a host bridge with bus 0 */
};

/* The sleep type that the guest writes to power off. */
#define ACPI_SLEEP_OFF 5u

/* Append all tables to @to, meant for guest address @base (the RSDP comes first). False: they do
 * not fit into the buffer's ceiling. */
bool acpi_build(const struct acpi_config *c, uint64_t base, struct buf *to);

/* SPDX-License-Identifier: Apache-2.0 */
/* The first serial port, a 16550A that only transmits: the guest's earliest words, and its last. */
#pragma once

#include "vmm/bus.h"

struct serial;

/* Output goes to @out_fd (borrowed, made non-blocking; what it does not take is dropped). @irq_fd is
 * written to for an interrupt (borrowed). */
struct serial *serial_new(uint64_t port, int out_fd, int irq_fd);
void serial_free(struct serial *s);
struct bus_dev *serial_bus_dev(struct serial *s);

/* SPDX-License-Identifier: Apache-2.0 */
/* The ways in which a guest switches its machine off or resets it: ACPI's sleep control and reset
 * registers, and the keyboard controller's reset line. */
#pragma once

#include "vmm/bus.h"

enum power_event { POWER_OFF, POWER_RESET };
typedef void power_fn(void *arg, enum power_event event);

struct power {
	struct bus_dev acpi, keyboard;
	power_fn *fn;
	void *arg;
};

/* Add both to the bus of I/O ports @ports. @fn runs on the vCPU thread that asked. */
int power_init(struct power *p, struct bus *ports, power_fn *fn, void *arg, struct err *err);

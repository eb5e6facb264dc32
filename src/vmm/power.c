/* SPDX-License-Identifier: Apache-2.0 */
/* Power switch (ACPI 6.4, 4.8.3.7 and 4.8.3.6) and i8042 reset. */
#include "vmm/power.h"

#include <string.h>

#include "base/mem.h"
#include "vmm/acpi_x86.h"
#include "vmm/layout_x86.h"

enum { SLEEP_CONTROL, SLEEP_STATUS, RESET, ACPI_BYTES };
enum { KEYBOARD_COMMAND = 4, KEYBOARD_BYTES };

#define SLEEP_ENABLE   0x20u
#define KEYBOARD_RESET 0xfeu /* pulse the reset line */

/* Nothing to report, and the keyboard controller is always idle. */
static void read_zero(struct bus_dev *d, uint64_t off, void *to, unsigned len)
{
	(void)d;
	(void)off;
	memset(to, 0, len);
}

static void acpi_write(struct bus_dev *d, uint64_t off, const void *from, unsigned len)
{
	struct power *p = container_of(d, struct power, acpi);
	uint8_t v = *(const uint8_t *)from;

	(void)len;
	if (off == SLEEP_CONTROL && (v & SLEEP_ENABLE) && (v >> 2 & 7) == ACPI_SLEEP_OFF)
		p->fn(p->arg, POWER_OFF);
	else if (off == RESET && v == 1)
		p->fn(p->arg, POWER_RESET);
}

static void keyboard_write(struct bus_dev *d, uint64_t off, const void *from, unsigned len)
{
	struct power *p = container_of(d, struct power, keyboard);

	(void)len;
	if (off == KEYBOARD_COMMAND && *(const uint8_t *)from == KEYBOARD_RESET)
		p->fn(p->arg, POWER_RESET);
}

int power_init(struct power *p, struct bus *ports, power_fn *fn, void *arg, struct err *err)
{
	*p = (struct power){
		.acpi = {.name = "power", .base = LAYOUT_POWER, .len = ACPI_BYTES, .read = read_zero, .write = acpi_write},
		.keyboard = {.name = "keyboard", .base = LAYOUT_KEYBOARD,
			.len = KEYBOARD_BYTES,
			.read = read_zero,
			.write = keyboard_write},
		.fn = fn,
		.arg = arg,
	};
	if (bus_add(ports, &p->acpi, err) < 0 || bus_add(ports, &p->keyboard, err) < 0)
		return -1;
	return 0;
}
